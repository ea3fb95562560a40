# ruff: noqa: RUF001, E501 - text in many scripts
"""Messages in many scripts and of code, and what queries must find among them: contract §6.

A text has a name, the queries that must find it and no other text, and queries that must not find it, though
they look alike. ALSO has queries that find several.
"""

from typing import NamedTuple


class Sample(NamedTuple):
    """A message, and queries that find it alone, and that do not find it."""

    text: str
    found_by: list[str]
    missed_by: list[str]


TEXTS: dict[str, Sample] = {
    # Apostrophes, quotation marks and letters that look like others
    "apostrophes": Sample(
        "Honolulu, Hawaiʻi: a Qurʾan of O’Brien, a ❝verbatim❞ quote, 6′ 2″ tall.",
        ["Hawai'i", "hawai’i", "Hawaiʻi", "qur'an", "Qur’an", "O'Brien", "o´brien", '"verbatim"', "❝verbatim❞", "「verbatim」", "«verbatim»"],
        ["obrien", "quran", "hawaii"],
    ),
    "fancy": Sample(
        "🅷🅴🅰🅳🅻🅸🅽🅴 of 𝓈𝒸𝓇𝒾𝓅𝓉 and ⓒⓘⓡⓒⓛⓔⓢ, ʙɪɢ ᴄᴀᴘꜱ, ➊ and ⓶ and ⅷ.",
        ["headline", "HEADLINE", "script", "circles", "caps", "𝐡𝐞𝐚𝐝𝐥𝐢𝐧𝐞", "viii", "🅷🅴🅰🅳"],
        ["head line", "circle "],
    ),
    "hebrew marks": Sample(
        "צ׳ק של צה״ל וייִדיש",
        ["צ'ק", "צ’ק", "צ׳ק", 'צה"ל', "צה״ל", "ײדיש".replace("ײ", "וײ"), "וייִדיש"],
        ["צק ", "צהל"],
    ),
    "malayalam chillu": Sample(
        "അവൻ വന്നു",
        ["അവന്\u200d", "അവൻ", "വന്നു"],
        ["അവ "],
    ),
    "amharic words": Sample(
        "መልካም፡ቀን፡ይሁን",
        ["መልካም ቀን", "መልካም፡ቀን", "ይሁን", '"ቀን ይሁን"'],
        ['"ቀን መልካም"'],
    ),
    "typed vowels": Sample("अापका बाेलना, चाँदनी रात", ["आपका", "अापका", "बोलना", "चांदनी"], ["अप", "बालना", "बेलना"]),
    "dhivehi": Sample("ދިވެހިރާއްޖެ", ["ދިވެހި", "ދިވެހިރާއްޖެ"], ["ހިރާ", "ދުވެހި"]),
    "amharic homophones": Sample("ሠላም ለዓለም ፀሐይ", ["ሰላም", "ሠላም", "ለአለም", "ጸሀይ"], ["ላም"]),
    "urdu letters": Sample("اس کے سورۃ", ["کے", "سورة", "سورۃ"], ["کی"]),
    "arabic print": Sample("ﻗﺎﻝ ﻣﻌﻠﱢﻢ ﺇِﻧﱠﻪُۥ ٩٠٪", ["قال", "معلّم انه", "90%"], ["معل "]),
    "tamil shri": Sample("ஸ்ரீரங்கம் கெளரவம்", ["ஶ்ரீரங்கம்", "கௌரவம்"], ["கரவம்"]),
    "pdf radicals": Sample("⻑⾕川さん、国⺠の⻄側", ["長谷川", "国民", "西側"], ["国氏"]),
    "japanese variants": Sample("霞ヶ関駅 ９〜１７時", ["霞ケ関", "霞ヶ関", "9~17時", "９～１７"], ["霞力関"]),
    "bold parts": Sample("**L**arge **La**nguage **M**odel；使用**人工神经**网络的`fit`方法 2**10 f(**kw)", ["large", "language model", "神经网络", "用人工神经", "fit方法", "的`fit`方法", "2**10", "**kw"], ["arge", "2*10"]),
    "typeset signs": Sample("Acme™ pump, 2560×1440 at 40˚C, 2¾ turns", ["acme pump", "™", "2560x1440", "2560×1440", "40°C", "2 3/4 turns"], ["acmetm", "23/4"]),
    "new emoji": Sample("so \U0001fae8 and \U0001fa77!", ["\U0001fae8", "so \U0001fae8", "\U0001fa77"], ["\U0001fa75"]),
    # Latin
    "english": Sample(
        "The quick brown fox doesn't jump over lazy dogs; state-of-the-art naïveté.",
        ["quick fox", "QUICK", "fox quick", "qui", '"brown fox"', "doesn't", "doesn’t", "state-of-the-art", "lazy dogs;", "naivete", "Naïve", "dogs!", "(jump)", "over lazy"],
        ["qui fox", '"fox brown"', "quick-fox", "state of art-the", "doesnt", "qui "],
    ),
    "german": Sample(
        "Die Straße führt über den Fluß nach Überlingen, das Ge\u00adsamt\u00adkon\u00adzept steht.",
        ["STRASSE", "strasse", "straße", "uber", "über", "UEBERLINGEN".replace("UE", "Ü"), "fluss", "Fluß", "gesamtkonzept", "Gesamtkonzept", "gesamt", "fuhrt"],
        ["Strase", "konzept", "fluß-über"],
    ),
    "french": Sample(
        "L'été, le café est fermé à Nîmes ; un œuvre d'art, la sœur, « garçon ».",
        ["ete", "été", "CAFÉ", "cafe", "nimes", "oeuvre", "ŒUVRE", "soeur", "garcon", "l'ete", "d’art", "«garçon»"],
        ["ouvre", "cafes", "art-d"],
    ),
    "polish": Sample("Łódź leży w Polsce, zażółć gęślą jaźń.", ["łódź", "lodz", "LODZ", "ŁÓDŹ", "zazolc", "gesla jazn", "lezy"], ["lod ", "zazolcić"]),
    "danish": Sample("Smørrebrød på ærø, blåbærgrød.", ["smorrebrod", "smørrebrød", "SMØRREBRØD", "aero", "ærø", "blabaergrod", "på ærø"], ["smrrebrd", "blabergrod"]),
    "icelandic": Sample("Þingvellir og Ísafjörður, það er gott.", ["thingvellir", "Þingvellir", "þingvellir", "isafjordur", "þad"], ["pingvellir"]),
    "turkish": Sample("İstanbul'da Işık yandı, ISPANAK aldım; çağrı şöyle.", ["istanbul", "İSTANBUL", "ışık", "isik", "IŞIK", "ıspanak", "ispanak", "Ispanak", "yandi", "cagri", "soyle"], ["stanbul", "sk"]),
    "vietnamese": Sample("Đồng bằng sông Cửu Long, tiếng Việt.", ["dong", "Đồng", "đồng bằng", "cuu long", '"tiếng việt"', "TIENG VIET"], ['"viet tieng"', "dongbang"]),
    "spanish": Sample("¿Mañana vendrá el niño? ¡Sí, señor!", ["manana", "¿mañana?", "nino", "¡sí!", "senor", "SEÑOR"], ["mañan ", "ninos"]),
    "croatian": Sample("Đakovo je čist grad, ǆep.", ["dakovo", "Đakovo", "cist", "dzep"], ["akovo"]),
    "ligatures": Sample("The eﬃcient ﬂow of ﬁles; ﬀ.", ["efficient", "flow", "files", "ﬁles"], ["eff icient"]),
    "full width": Sample("Ｆｕｌｌ　ｗｉｄｔｈ　１２３．５", ["full width", "width", "123.5", "ｆｕｌｌ"], ["23.5"]),
    # Greek, Cyrillic, Armenian, Georgian
    "greek": Sample("Η ΟΔΥΣΣΕΙΑ του Ομήρου και ο Οδυσσεύς", ["οδυσσεια", "ομηρου", "Ομήρου", "ΟΔΥΣΣΕΥΣ", "οδυσσευς", '"του ομήρου"'], ["ομηρο ", '"ομήρου του"']),
    "greek polytonic": Sample("ἐν ἀρχῇ ἦν ὁ λόγος", ["εν αρχη", "λογος", "ΛΌΓΟΣ", "ἀρχῇ"], ["αρχηι"]),
    "russian": Sample("Привет, мир! Ёжик гуляет, йод.", ["привет МИР", "ежик", "Ёжик", "ЙОД", "гуля"], ["гуля мир", "ёж "]),
    "ukrainian": Sample("Ґанок і їжак під'їхав.", ["ґанок", "ганок", "їжак", "під’їхав"], ["жак"]),
    "kazakh": Sample("Қазақстан өңірі", ["казакстан", "Қазақстан", "ҚАЗАҚ", "өңірі"], ["азак"]),
    "armenian": Sample("Հայաստանի մայրաքաղաքը Երևանն է", ["հայաստանի", "ՀԱՅԱՍՏԱՆԻ", "Երևանն", "մայր"], ["աստան"]),
    "armenian signs": Sample("Ինչպե՞ս ես, բարե՛ւ", ["ինչպես", "Ինչպե՞ս ես", "բարեւ"], ["ինչպե "]),
    "foreign names": Sample("加西亚•马尔克斯，ガルシア・マルケス", ["加西亚·马尔克斯", "加西亚・马尔克斯", "ガルシア·マルケス"], ["加西亚马尔克斯"]),
    "georgian": Sample("საქართველოს დედაქალაქი თბილისია", ["საქართველოს", "თბილისია", "თბილ"], ["ქართველოს"]),
    # Hebrew, Arabic and their neighbours
    "hebrew": Sample("שָׁלוֹם עוֹלָם, ספר של דויד", ["שלום", "שָׁלוֹם", "עולם", "שלומ", "ספר של"], ["לום", '"עולם שלום"']),
    "arabic": Sample("مرحبا بالعالم، كَتَبَ الولدُ كِتَابًا عن مـــحـــمـــد", ["بالعالم", "كتب", "كَتَبَ", "محمد", "مـحـمـد", "الولد", "كتابا", "بالعالم،"], ["عالم", "كتب-الولد"]),
    "arabic hamza": Sample("أكل أحمد آيسكريم وسأل إبراهيم عن مسؤول", ["اكل", "أكل", "احمد", "ايسكريم", "ابراهيم", "مسوول"], ["حمد"]),
    "persian": Sample("این یک کتاب فارسی است، سال ۱۴۰۳", ["كتاب فارسي", "کتاب", "1403", "١٤٠٣", "۱۴۰۳"], ["کتابها"]),
    "joined persian": Sample("می\u200cخواهم کیک‌ها", ["میخواهم", "می\u200cخواهم", "ميخواهم"], ["خواهم"]),
    "urdu": Sample("یہ اردو زبان ہے", ["اردو", "زبان", "ي\u0647"], ["دو"]),
    "digits": Sample("سنة ٢٠٢٦ و २०२५ و ๒๐๒๔", ["2026", "٢٠٢٦", "2025", "२०२५", "2024", "๒๐๒๔"], ["202 ", "2027"]),
    "syriac": Sample("ܫܠܳܡܳܐ ܥܰܠܡܳܐ", ["ܫܠܡܐ", "ܫܠܳܡܳܐ", "ܥܠܡܐ"], ["ܠܡܐ"]),
    # South Asia
    "hindi": Sample("हिन्दी में खोज और विकिपीडिया, ज़रूर क\u094d\u200dष देखें।", ["हिन्दी", "विकि", "खोज", "जरूर", "ज़रूर", "क्ष", "देखें।"], ["हन्द", "न्दी", "विकीपीड"]),
    "bengali": Sample("বাংলা ভাষায় অনুসন্ধান", ["বাংলা", "অনুসন্ধান", "ভাষা"], ["ংলা", "বংলা"]),
    "punjabi": Sample("ਪੰਜਾਬੀ ਬੋਲੀ ਦੀ ਖੋਜ", ["ਪੰਜਾਬੀ", "ਬੋਲੀ", "ਪੰਜਾ"], ["ਜਾਬੀ"]),
    "gujarati": Sample("ગુજરાતી ભાષામાં શોધ", ["ગુજરાતી", "શોધ", "ભાષા"], ["જરાતી"]),
    "tamil": Sample("தமிழ் மொழியில் தேடல்", ["தமிழ்", "தேடல்", "மொழி"], ["மிழ்", "தமழ்"]),
    "telugu": Sample("తెలుగు భాషలో వెతకండి", ["తెలుగు", "వెతకండి", "భాష"], ["లుగు"]),
    "kannada": Sample("ಕನ್ನಡದಲ್ಲಿ ಹುಡುಕಿ", ["ಕನ್ನಡ", "ಹುಡುಕಿ"], ["ನ್ನಡ"]),
    "malayalam": Sample("മലയാളത്തിൽ തിരയുക", ["മലയാള", "തിരയുക"], ["ലയാള"]),
    "sinhala": Sample("සිංහල භාෂාවෙන් සොයන්න", ["සිංහල", "සොයන්න"], ["ංහල"]),
    # South-East Asia, without spaces
    "thai": Sample("ภาษาไทยไม่มีช่องว่างระหว่างคำ", ["ไทย", "ภาษาไทย", "ช่องว่าง", "ไม่มี", "คำ"], ["ไทยภาษา", "ไมมี"]),
    "thai typed signs": Sample("แมวตัวนี้เเก่ น\u0e49\u0e4d\u0e32", ["เเมว", "แมว", "แก่", "เเก่", "น้ำ"], ["แกว"]),
    "lao": Sample("ພາສາລາວບໍ່ມີຊ່ອງຫວ່າງ", ["ພາສາ", "ລາວ", "ພາສາລາວ"], ["ລາວພາສາ"]),
    "lao typed signs": Sample("ເເມວ ແລະ ໝາ", ["ແມວ", "ເເມວ", "ເເລະ", "ຫມາ"], ["ເມວມວ"]),
    "burmese": Sample("မြန်မာဘာသာစကားဖြင့်ရှာဖွေပါ", ["မြန်မာ", "ရှာဖွေ"], ["ဖွေရှာ"]),
    "khmer": Sample("ភាសាខ្មែរមិនមានដកឃ្លា", ["ខ្មែរ", "ភាសាខ្មែរ"], ["ខ្មែរភាសា"]),
    "khmer subscripts": Sample("កណ\u17d2\u178fាល ប\u17d2\u178aី", ["កណ\u17d2\u178aាល", "កណ\u17d2\u178fាល", "ប\u17d2\u178fី"], ["កណតាល"]),
    "tibetan": Sample("བོད་ཡིག་འཚོལ་བ", ["བོད", "ཡིག", "བོད་ཡིག"], ["ཡིག་བོད"]),
    # East Asia
    "chinese": Sample("我们正在测试中文全文搜索的效果，人工智能很有趣。", ["中", "文", "中文", "全文搜索", "中文 智能", '"人工智能"', "很有趣。", "测试中文全文搜索", "效果，人工"], ["文中", "搜索全文", "人智", "学习测验"]),
    "traditional": Sample("機器學習與資料庫", ["學習", "資料庫", "機器學習"], ["学习", "庫資"]),
    "japanese": Sample("東京都に住んでいます。検索テスト", ["東京", "京都", "検索テスト", "す", "住んで"], ["京東", "テスト検索"]),
    "kana": Sample("データベース ﾊﾝｶｸ がぎぐげご", ["データベース", "ﾃﾞｰﾀ", "ハンカク", "ﾊﾝｶｸ", "がぎ", "カ\u3099".replace("カ", "か") + "ぎ", "ﾃﾞｰﾀﾍﾞｰｽ"], ["テータ", "かぎ"]),
    "korean": Sample("한국어 검색을 시험합니다. 데이터베이스가 빠릅니다.", ["검색", "검", "베이스", "데이터베이스", "\u1112\u1161\u11ab국어", "시험합니다."], ["색검", "거", "하국"]),
    "korean chat": Sample("정말 고마워ㅠㅠ 초ㆍ중ㆍ고 ㅋㅋㅋ", ["고마워", "고마워ㅠㅠ", "ㅠㅠ", "ㅋㅋ", "초·중·고"], ["고마우", "초중고"]),
    "hebrew acronyms": Sample("מע״מ, ארה''ב, דו\"ח", ['מע"מ', "מע״מ", 'ארה"ב', "דו״ח", "דו''ח"], ['מע"ב', "ארהב"]),
    "rare han": Sample("㐀㐁 𠮷野家 〇 々", ["㐀", "㐀㐁", "𠮷", "𠮷野", "〇"], ["野𠮷"]),
    "mixed": Sample("我用Python写代码，GPT5很快", ["Python", "python写", "我用python", "GPT5", "写代码", "gpt"], ["写python", "ython"]),
    "bopomofo": Sample("ㄓㄨˋㄧㄣ 符號", ["ㄓㄨ", "符號"], ["ㄨㄓ"]),
    # Others
    "amharic": Sample("አማርኛ ቋንቋ ፍለጋ", ["አማርኛ", "ፍለጋ", "ቋን"], ["ማርኛ"]),
    "cherokee": Sample("ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", ["ᏣᎳᎩ", "ꮳꮃꭹ"], ["ᎳᎩ"]),
    "mongolian": Sample("ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ", ["ᠮᠣᠩᠭᠣᠯ", "ᠬᠡᠯᠡ"], ["ᠩᠭᠣᠯ"]),
    "emoji": Sample("Great 👍🏽 work 🎉party 👩\u200d💻 ❤\ufe0f 🇩🇪", ["👍", "👍🏽", "👍🏿", "🎉", "🎉party", "party", "👩\u200d💻", "❤", "🇩🇪", "great 👍"], ["👎", "🎂", "🇩🇫", "work🎉"]),
    "symbols": Sample("Let ∑ be the sum, x ≠ y, 5 € → 6 £, ½ cup", ["∑", "x ≠ y", "≠", "€", "→", "£", "½", "1/2 cup"], ["∏", "≈", "←", "¥"]),
    "invisible": Sample("in\u200bvis\u2060ible \ufeffmark \u202abidi\u202c", ["invisible", "in\u00advisible", "mark", "bidi"], ["vis "]),
    "terminal": Sample("\x1b[31mFATALITY\x1b[0m at \x1b[1mli\x1b[32mne\x1b[0m 77", ["fatality", "FATALITY at", "line 77", '"at line"'], ["31mFATALITY", "0m"]),
}  # fmt: skip

CODE: dict[str, Sample] = {
    "terminal": Sample(
        "\x1b]0;hidden window\x07\x1bPq#1;2\x1b\\\x9d8;;https://hidden.example\x9cSYNOPSIS\x1b]8;;\x1b\\ \x1b[38:5:1mgrep\x1b[0m N\bNA\bAM\bME\bE _\bp_\ba_\bg_\be_\br",
        ["synopsis grep", "SYNOPSIS", '"grep name"', "grep pager", '"name pager"'],
        ["hidden window", "hidden.example", "nnaammee"],
    ),
    "c++": Sample("I prefer C++ and C++20 modules", ["C++", "c++20", "C++ modules", "c++,"], ["C++17", "+C", "C+"]),
    "c#": Sample("C# and F# run on .NET 8, ASP.NET too", ["C#", "F#", ".NET", "c# and", ".net 8", "asp.net"], ["G#", "#C", ".NETCORE"]),
    "plain c": Sample("Plain C, and the net under a cat", ["plain c,", '"the net"'], ["c++ plain", "c# plain", ".net under"]),
    "numbers": Sample("pi is 3.14159, not 42; 1,000 and -7; 0x1F", ["3.14", "3.14159", "1,000", "-7;", "0x1F", "0x1f;"], ["13.14", "3.14 ", "4.14", "000,1"]),
    "fruit": Sample("14 apples and 3 pears", ["14 apples", "3 pears"], ["3.14 pears", "14.3"]),
    "version": Sample("Upgrade to v1.2.3-beta of utf8mb4", ["1.2.3", "v1.2.3", "1.2.3-beta", "v1.2", "utf8", "utf8mb4"], ["2.1", "1.2.4", "v2", "utf-8"]),
    "units": Sample("10km in 5min, 16GB", ["10 km", "10km", "5min", "16 gb", "gb 16"], ["10 miles", "1 km", "0km"]),
    "call": Sample("x = foo.bar(baz)[0]; quux()", ["foo.bar(baz)", "foo.bar", "bar(baz", "baz)[0]", "quux()", "quux"], ["bar.foo", "foo,bar", "foo(bar"]),
    "snake": Sample("def snake_case_name(self, *args): return np.array(values)", ["snake_case", "snake_case_name", "np.array", "*args", "case_name"], ["snake-case", "case_snake", "np,array", "array.np"]),
    "dunder": Sample("class A: __init__ calls super().__init__()", ["__init__", "super().__init__", "__"], ["__del__", "_init_"]),
    "camel": Sample("getElementById and XMLHttpRequest", ["getElementById", "getelement", "xmlhttprequest"], ["elementbyid", "httprequest"]),
    "arrow": Sample("if (node->next) return p->q; const f = (n) => n + 1;", ["node->next", "p->q", "=>", "n + 1"], ["next->node", "node->nex ", "node next->"]),
    "equals": Sample("a === b && c !== d || e == null", ["===", "!==", "&&", "||", "e == null", "a === b"], ["====", "a==b", "c != d"]),
    "assign": Sample("n := 5; total += 2; m ??= 3; i++", [":=", "+=", "n := 5", "i++", "??="], ["-=", "m ??? 3", "i--"]),
    "error": Sample("TypeError: Cannot read properties of undefined (reading 'map')", ["TypeError:", "typeerror", "'map'", "undefined (reading", "cannot read properties"], ["TypeErrors:", "RangeError:", "'maps'"]),
    "mail": Sample("ssh user@host.example -p 2222 and mail jane.doe+x@example.org", ["user@host", "user@host.example", "jane.doe+x@example.org", "@example.org", "2222"], ["host@user", "jane.doe@example.org"]),
    "path": Sample("cat /etc/nginx/nginx.conf | grep C:\\temp\\file.txt", ["/etc/nginx", "/etc/nginx/nginx.conf", "nginx.conf", "C:\\temp", "file.txt", "temp\\file"], ["/nginx/etc", "etc-nginx", "C:/temp"]),
    "url": Sample("see https://docs.example.com/path/to?x=1&y=2#frag", ["https://docs.example.com/path", "docs.example.com", "x=1&y=2", "#frag", "?x=1"], ["http://docs", "y=1", "?y=2"]),
    "shell": Sample('export PATH="$HOME/bin:$PATH"; ls -la --color=auto 2>&1', ["$HOME", "$HOME/bin", "--color", "--color=auto", "-la", "2>&1"], ["$HOMES", "--colour", "-al"]),
    "sql": Sample("SELECT * FROM users WHERE id <> 5 AND name ILIKE '%bob%'", ["SELECT *", "id <> 5", "<>", "ilike '%bob%'", "%bob%"], ["<=>", "id<5", "%alice%"]),
    "html": Sample('<div class="card">&nbsp;</div> <!-- note -->', ["<div", "</div>", "&nbsp;", "-->", "</div>", 'class="card"'.replace('"', "'").replace("'card'", ""), "<!--"], ["<span", "div/>"]),
    "regex": Sample("match ^[a-z]+$ or \\d{3}", ["^[a-z]+$", "\\d{3}", "[a-z]"], ["^[A-0]+$", "\\w{3}"]),
    "json": Sample('{"key": [1, 2], "other_key": null}', ["other_key", "key", '"other_key": null'], ["other-key", "2, 3"]),
    "rust": Sample("let v: Vec<u8> = iter.collect::<Vec<_>>(); fn main() -> Result<()>", ["Vec<u8>", "::<Vec", "collect::", "main() -> Result"], ["Vec<u16>", "collect:<Vec"]),
    "hash": Sample("commit 9f8e7d6c5b4a fixes #1234", ["9f8e7d6c5b4a", "9f8e7d", "#1234"], ["8e7d6c", "#123 ", "#4321"]),
    "uuid": Sample("id 01a21476-599c-72b9-b3ed-916b4277356a", ["01a21476-599c-72b9-b3ed-916b4277356a", "01a21476", "599c-72b9"], ["01a21476-72b9", "1a21476"]),
    "diff": Sample("-old_line\n+new_line\n@@ -1,2 +1,3 @@", ["-old_line", "+new_line", "@@", "-1,2"], ["+old_line", "-new_line", "@@@"]),
    "latex": Sample("$\\frac{a}{b} \\leq \\alpha$", ["\\frac", "\\frac{a}{b}", "\\alpha", "\\leq"], ["\\beta", "/frac"]),
    "comment": Sample("// TODO(ann): fix /* this */ now", ["// todo", "todo(ann)", "/*", "*/"], ["///", "todo(bob)"]),
    "decorator": Sample("@app.route('/x') async def view(): await go()", ["@app.route", "@app", "await go()"], ["@view", "@route"]),
    "key value": Sample("Content-Type: text/plain; charset=utf-8", ["Content-Type:", "text/plain", "charset=utf-8", "utf-8"], ["type-content", "plain/text"]),
    "long": Sample("Donaudampfschifffahrtsgesellschaft and " + "x" * 80, ["donaudampfschifffahrtsgesellschaft", "Donaudampfschiff", "x" * 80, "x" * 50], ["Donaudampfschifffahrtskapitän", "x" * 20 + "y"]),
}  # fmt: skip

# Queries that find several texts, or none.
ALSO: dict[str, set[str]] = {
    "كتاب": {"persian", "arabic"},
    "کتاب": {"persian", "arabic"},
    "-7": {"numbers", "uuid"},
    "->": {"arrow", "rust"},
    "--": {"shell", "html"},
    "//": {"url", "comment"},
    "null}": {"equals", "json"},
    "中 文": {"chinese"},
    "python OR rust": set(),
    "zebra": set(),
    '"state of the art"': {"english"},
    "utf8": {"version"},
    "init": {"dunder"},
    "nginx": {"path"},
    "example": {"mail", "url"},
    "the": {"english", "ligatures", "plain c", "symbols"},
    "array": {"snake"},
    "net": {"c#", "plain c"},
}  # fmt: skip


def queries_of(samples: dict[str, Sample]) -> list[str]:
    """Return the queries of samples."""
    return [query for sample in samples.values() for query in (*sample.found_by, *sample.missed_by)]


def expectations() -> list[tuple[str, str | None, set[str]]]:
    """Return each query, the text that it must not find (None: it finds exactly the set), and the set."""
    samples = TEXTS | CODE
    rows: list[tuple[str, str | None, set[str]]] = []
    for name, sample in samples.items():
        rows += [(query, None, {name}) for query in sample.found_by if query not in ALSO]
        rows += [(query, name, set()) for query in sample.missed_by]
    return rows + [(query, None, names) for query, names in ALSO.items()]
