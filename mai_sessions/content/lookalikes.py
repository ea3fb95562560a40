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
    ഈഇൗ ഊഉൗ ഐഎെ ഓഒാ ഔഒൗ
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
    # Encodings of Japanese convert one character to either of two.
    "〜": "~",
    "〰": "~",
    # For file names that must not contain the sign.
    "⧸": "/",
    "⧵": "\\",
    "∖": "\\",
    "∆": "δ",
    "ༀ": "ཨོཾ",
    "ဩ": "သြ",
    "ဪ": "သြော်",
    "ဉ": "ဥ",
    "ឣ": "អ",
    "ឤ": "អា",
    "ឲ": "ឱ",
    "ௗ": "ள",
    "ஶ": "ஸ",
    "٫": ".",
    "٬": ",",
    "٪": "%",
    # Letters of which one form is encoded twice, or is written like another one.
    "ۃ": "ه",
    "ګ": "گ",
    "ڬ": "ݢ",
    "ኣ": "አ",
    "ሃ": "ሀ",
    "ँ": "ं",
    "ๅ": "า",
    "ヵ": "カ",
    "ヶ": "ケ",
}

LOOKALIKES: dict[str, str] = {
    **dict(zip(_RADICALS, _IDEOGRAPHS, strict=True)),
    **{
        chr(ord(one) + vowel): chr(ord(other) + vowel)
        for one, other in _ETHIOPIC.items()
        for vowel in range(7)
    },
    **_OTHERS,
}
