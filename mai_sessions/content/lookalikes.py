# ruff: noqa: RUF001 - text in many scripts
"""Characters that stand for others, though Unicode's decompositions do not say so: what they fold to.

A keyboard, a program or a font writes one for the other, and readers do not see or do not mind the
difference.
"""

# A letter, and the sequences that look the same: "Do Not Use" in the chapters on these scripts of the Unicode
# Standard. Keyboards and converters of old fonts write them.
_SEQUENCES = """
    ऄअॆ आअा ऊउु ऍएॅ ऎएॆ ऐएे ऑअॉ ऑअाॅ ऑआॅ ऒअॊ ऒअाॆ ऒआॆ ओअो ओअाे ओआे औअौ औअाै औआै ॲअॅ ॳअऺ ॴअऻ ॵअॏ ॶअॖ ॷअॗ
    ॉाॅ ॊाॆ ोाे ौाै
    আঅা ৠঋৃ ৡঌৢ
    ਆਅਾ ਇੲਿ ਈੲੀ ਉੳੁ ਊੳੂ ਏੲੇ ਐਅੈ ਓੳੋ ਔਅੌ
    આઅા ઍઅૅ એઅે ઐઅૈ ઑઅૉ ઓઅો ઓઅાૅ ઓઅાે ઓઆે ઔઅૌ ઔઅાૈ ઔઆૈ ૉૅા ોાે ૌાૈ
    ଆଅା ଐଏୗ ଔଓୗ
    ஆஅூ
    ఓఒౕ ఔఒౌ ీిౕ ేెౕ ోొౕ
    ಊಉಾ ಔಒೌ ೠಋಾ
    ൌൌ ഈഇൗ ഊഉൗ ഐഎെ ഓഒാ ഔഒൗ
    ោេា ើេី
    ආඅා ඇඅැ ඈඅෑ ඌඋෟ ඎඍෘ ඐඏෟ ඒඑ් ඓඑෙ ඖඔෟ
"""
LETTER_OF_SEQUENCE: dict[str, str] = {entry[1:]: entry[0] for entry in _SEQUENCES.split()}

# Copied from a PDF, an ideograph may be the radical that looks the same: EquivalentUnifiedIdeograph.txt of
# Unicode.
_RADICALS = (
    "⺁⺂⺃⺄⺅⺆⺇⺈⺉⺊⺋⺌⺍⺎⺏⺐⺑⺒⺓⺔⺕⺖⺗⺘⺙⺛⺜⺝⺞⺠⺡⺢⺣⺤⺥⺦⺧⺨⺩⺪"
    "⺫⺬⺭⺮⺯⺰⺱⺲⺳⺴⺵⺶⺷⺸⺹⺺⺻⺼⺽⺾⺿⻀⻁⻂⻃⻄⻅⻆⻇⻈⻉⻊⻋⻌⻍⻎⻏⻐⻑⻒"
    "⻓⻔⻕⻖⻗⻘⻙⻚⻛⻜⻝⻞⻟⻠⻡⻢⻣⻤⻥⻦⻧⻨⻩⻪⻫⻬⻭⻮⻯⻰⻱⻲"
)
_IDEOGRAPHS = (
    "厂乛乚乙亻冂𠘨刀刂卜㔾小小兀尣尢𡯂巳幺彑彐忄心扌攵旡日月歺民氵氺灬爫爫丬牛犭王𤴔"
    "目示礻𥫗糹纟罓罒㓁冗𦉫羊𦍌𦍋耂肀聿肉𦥑艹艹艹虎衤覀西见角𧢲讠贝𧾷车辶辶辶邑钅長镸"
    "长门𨸏阝雨青韦页风飞食𩙿飠饣𩠐马骨鬼鱼鸟卤麦黄黾斉齐歯齿竜龙龜亀"
)

# Two code points of one ideograph, whose forms hardly differ. An input method has one of them.
_VARIANTS = """
    髙高 﨑崎 𠮷吉 說説 內内 戶戸 户戸 吳呉 吴呉 產産 溫温 靑青 靜静 黃黄 黑黒 每毎 步歩 增増
    德徳 錄録 奧奥 眞真 別别 彥彦 顏顔 淸清 敎教 冊册 晚晩 槪概 卽即 旣既 鄕郷 鄉郷 絕絶 緣縁
    虛虚 尙尚 寬寛 衞衛 裡裏 峯峰 羣群 啟啓 綫線 麪麵 銳鋭 悅悦 稅税 脫脱 閱閲 兑兌 卻却 爲為
    僞偽 瑤瑶 搖揺 遙遥 謠謡 渴渇 揭掲 曆暦 歷歴 强強 查査 俞兪 吿告 吕呂 插挿 晉晋 槇槙 橫横
    淚涙 瀨瀬 蔥葱 薰薫 眾衆 郞郎 隸隷 頰頬 顚顛 騷騒 娛娯 姬姫 卷巻 圈圏 拔抜 歲歳 穗穂 惠恵
    舍舎 俱倶 兔兎 剎刹 卧臥 吞呑 滙匯 甁瓶 倂併 幷并 巢巣
"""

# In Amharic, syllables of these consonants are written for each other. A consonant has a syllable for each of
# seven vowels, in consecutive code points.
_ETHIOPIC = {"ሐ": "ሀ", "ኀ": "ሀ", "ሠ": "ሰ", "ዐ": "አ", "ፀ": "ጸ"}

_OTHERS = {
    # Spacing accents, which stand for signs of ASCII where a keyboard or a font lacks these.
    "´": "'",
    "΄": "'",
    "᾽": "'",
    "᾿": "'",
    "῾": "'",
    "˜": "~",
    "˚": "°",
    "º": "°",
    # Encodings of Japanese convert one character to either of two.
    "〜": "~",
    "〰": "~",
    "‖": "∥",
    # For file names that must not contain the sign.
    "⧸": "/",
    "⧵": "\\",
    "∖": "\\",
    "∆": "δ",
    # Between the parts of a foreign name.
    "・": "·",
    "ㆍ": "·",
    "•": "·",
    "∙": "·",
    "\N{BRAILLE PATTERN BLANK}": " ",
    "ༀ": "ཨོཾ",
    "ཪ": "ར",
    "ྺ": "ྭ",
    "ྻ": "ྱ",
    "ྼ": "ྲ",
    "ဩ": "သြ",
    "ဪ": "သြော်",
    "ဉ": "ဥ",
    "ါ": "ာ",
    "ᩤ": "ᩣ",
    "ឣ": "អ",
    "ឤ": "អា",
    "ឲ": "ឱ",
    "ௗ": "ள",
    "ൌ": "ൗ",
    "ൎ": "ര്",
    "ஶ": "ஸ",
    "٫": ".",
    "٬": ",",
    "٪": "%",
    # Letters of which one form is encoded twice, or is written like another one.
    "﷽": "بسم الله الرحمن الرحيم",
    "ۃ": "ه",
    "ګ": "گ",
    "ڬ": "ݢ",
    "ኣ": "አ",
    "ሃ": "ሀ",
    "ँ": "ं",
    "ๅ": "า",
    "○": "〇",
    "◯": "〇",
    "ǃ": "!",
    "ǀ": "|",
    "ǁ": "||",
    "ᠤ": "ᠣ",
    "ᠦ": "ᠥ",
    "ヘ": "へ",
    "ヵ": "カ",
    "ヶ": "ケ",
}

LOOKALIKES: dict[str, str] = {
    **{pair[0]: pair[1] for pair in _VARIANTS.split()},
    **dict(zip(_RADICALS, _IDEOGRAPHS, strict=True)),
    **{
        chr(ord(one) + vowel): chr(ord(other) + vowel)
        for one, other in _ETHIOPIC.items()
        for vowel in range(7)
    },
    **_OTHERS,
}
