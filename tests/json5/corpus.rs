//! Texts that are JSON5, nearly JSON5, or neither; the same ones in every run.

/// Cases worth naming, each of which some parser gets wrong.
const NAMED: &[&str] = &[
    "",
    " ",
    "//",
    "/**/",
    "/*",
    "/*/",
    "\u{feff}",
    "\u{feff}{}",
    "{}\u{feff}",
    "[]",
    "[,]",
    "[1,,2]",
    "[1,]",
    "{,}",
    "{a:1,}",
    "{a:1,,}",
    "{a}",
    "{a:}",
    "{:1}",
    "{1:1}",
    "{-1:1}",
    "{'a':1}",
    "{\"a\":1}",
    "{a-b:1}",
    "{$_:1}",
    "{\u{e9}:1}",
    "{\u{2165}:1}",
    "{a\u{300}:1}",
    "{\\u0061:1}",
    "{\\u{61}:1}",
    "{a\\u0062:1}",
    "{a\\x62:1}",
    "{null:1}",
    "{true:false}",
    "{Infinity:1}",
    "{if:1,class:2}",
    "{a\u{200c}:1}",
    "{\u{200c}a:1}",
    "0",
    "-0",
    "+0",
    "00",
    "01",
    "-01",
    "0x",
    "0x1",
    "0XaF",
    "-0x1",
    "+0x10",
    "0x1.8",
    "0b1",
    "0o7",
    "1.",
    ".1",
    ".",
    "-.5",
    "+.5",
    "1e",
    "1e5",
    "1E+5",
    "1e-5",
    "1.e1",
    ".e1",
    "1.5.5",
    "1_000",
    "1e400",
    "-1e400",
    "1e-400",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "0xffffffffffffffffffff",
    "NaN",
    "-NaN",
    "+NaN",
    "Infinity",
    "-Infinity",
    "+Infinity",
    "infinity",
    "nan",
    "undefined",
    "null",
    "Null",
    "true",
    "True",
    "tru",
    "truee",
    "''",
    "\"\"",
    "'\"'",
    "\"'\"",
    "'a\\'b'",
    "'a\nb'",
    "'a\\\nb'",
    "'a\\\r\nb'",
    "'a\\\rb'",
    "'a\u{2028}b'",
    "'a\\\u{2028}b'",
    "'\\0'",
    "'\\01'",
    "'\\1'",
    "'\\8'",
    "'\\x41'",
    "'\\x4'",
    "'\\xZZ'",
    "'\\u0041'",
    "'\\u004'",
    "'\\u{41}'",
    "'\\v\\f\\b\\n\\r\\t'",
    "'\\a\\c\\d'",
    "'\\ud83d\\ude00'",
    "'\\ud83d'",
    "'\\ude00\\ud83d'",
    "'\t'",
    "'\u{0}'",
    "'\u{7f}'",
    "'\u{1}'",
    "'abc",
    "\"abc",
    "'abc\\",
    "'abc\\'",
    "'\u{1f600}'",
    "{a:1 b:2}",
    "{a:1;b:2}",
    "[1 2]",
    "{} {}",
    "{}x",
    "x",
    "{a:'x' 'y'}",
    "/",
    "{/}",
    "{a:/x/}",
    "# a\n{}",
    "<!--\n{}",
    "{}//",
    "{}/*",
    "{}/**/",
    "//\u{2028}{}",
    "//a\r{}",
    "/* * / */{}",
    "\u{a0}{}",
    "\u{2003}1",
    "\u{b}1",
    "\u{c}1",
    "\u{85}1",
    "\u{180e}1",
    "\u{1680}1",
    "\u{200b}1",
    "{__proto__:1}",
    "{\"__proto__\":1}",
    "{'__proto__':{a:1}}",
    "{a:1,a:2}",
    "{a:1,'a':2,\"a\":3}",
    "{constructor:1,toString:2,hasOwnProperty:3}",
    "{'':1}",
    "{\"\":1}",
    "[[[[[]]]]]",
    "[[[[[]]]]",
    "]",
    "}",
    "{]",
    "[}",
    "{a:[}",
    "\u{0}",
    "1\u{0}",
    "\u{1}1",
    "'\\\u{1f600}'",
    "{\\u00e9:1}",
    "{\\u002d:1}",
    "{a\\u002d:1}",
    "{a\\u{2d}:1}",
    "{\u{10400}:1}",
    "{\\ud801\\udc00:1}",
    "- 1",
    "-\n1",
    "--1",
    "+-1",
    "0.",
    "-0.0",
    "0e0",
    "0x0",
    "1e1000",
    "5e-324",
    "0.1e1",
    "Infinityx",
    "-Infinit",
    "{a:+1}",
    "{a:-}",
    "[+]",
    "[0,01]",
    "[.]",
    "{a:1/**/,/**/b/**/:/**/2/**/}",
    "{a\n:\n1\n}",
    "{\"a\" :1}",
    "{a:b}",
];

/// What a mutation puts in.
const NASTY: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "'",
    "\"",
    "\\",
    "/",
    "*",
    "//",
    "/*",
    "*/",
    "\n",
    "\r",
    "\u{2028}",
    "0",
    "1",
    "x",
    "e",
    ".",
    "-",
    "+",
    "u",
    "\\u",
    "\\x",
    "null",
    "NaN",
    "Infinity",
    "true",
    " ",
    "\u{a0}",
    "\u{feff}",
    "$",
    "_",
    "\u{e9}",
    "\u{0}",
    "\\0",
    "a",
    "__proto__",
    "\\ud800",
    "\u{85}",
    "#",
    "`",
    "=",
    ";",
];

/// All of them.
pub(crate) fn texts(count: usize) -> Vec<String> {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let mut texts: Vec<String> = NAMED.iter().map(|text| (*text).to_owned()).collect();
    while texts.len() < count {
        let mut text = String::new();
        value(&mut draw, 4, &mut text);
        // Half of them are broken, in one place or in some.
        for _ in 0..[0, 0, 0, 1, 1, 3][draw.below(6)] {
            mutate(&mut draw, &mut text);
        }
        texts.push(text);
    }
    texts
}

/// xorshift64*: any sequence will do, as long as it is always the same.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 33) % end as u64).expect("it is below a usize")
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

fn mutate(draw: &mut Draw, text: &mut String) {
    let places: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let at = places[draw.below(places.len())];
    match draw.below(3) {
        0 => text.insert_str(at, draw.of(NASTY)),
        1 if at < text.len() => {
            text.remove(at);
        }
        _ => {
            if at < text.len() {
                text.remove(at);
            }
            text.insert_str(at, draw.of(NASTY));
        }
    }
}

fn value(draw: &mut Draw, depth: usize, out: &mut String) {
    gap(draw, out);
    match draw.below(if depth == 0 { 3 } else { 6 }) {
        0 => out.push_str(draw.of(&[
            "null",
            "true",
            "false",
            "NaN",
            "Infinity",
            "-Infinity",
            "+NaN",
            "0",
            "-0",
            "1",
            "+1",
            "-1.5",
            ".5",
            "5.",
            "0x1F",
            "-0Xa",
            "1e3",
            "1E-3",
            "+.5e+1",
            "123456789",
            "4294967296",
            "9007199254740991",
            "1e21",
            "0.1",
        ])),
        1 | 2 => string(draw, out),
        3 => {
            out.push('[');
            items(draw, out, |draw, out| value(draw, depth - 1, out));
            out.push(']');
        }
        _ => {
            out.push('{');
            items(draw, out, |draw, out| {
                key(draw, out);
                gap(draw, out);
                out.push(':');
                value(draw, depth - 1, out);
            });
            out.push('}');
        }
    }
    gap(draw, out);
}

fn items(draw: &mut Draw, out: &mut String, item: impl Fn(&mut Draw, &mut String)) {
    let count = draw.below(4);
    for index in 0..count {
        item(draw, out);
        if index + 1 < count || draw.below(3) == 0 {
            out.push(',');
        }
    }
    gap(draw, out);
}

fn key(draw: &mut Draw, out: &mut String) {
    gap(draw, out);
    match draw.below(3) {
        0 => string(draw, out),
        _ => out.push_str(draw.of(&[
            "a",
            "b",
            "gateway",
            "$x",
            "_",
            "a1",
            "\u{e9}t\u{e9}",
            "\\u0061b",
            "null",
            "NaN",
            "Infinity",
            "class",
            "A\u{200d}",
        ])),
    }
}

fn string(draw: &mut Draw, out: &mut String) {
    let quote = draw.of(&["'", "\""]);
    out.push_str(quote);
    for _ in 0..draw.below(5) {
        let piece = draw.of(&[
            "a",
            "Z",
            "0",
            " ",
            "\t",
            "\u{e9}",
            "\u{1f600}",
            "\u{2028}",
            "{",
            "]",
            "//",
            "/*",
            ":",
            "\\n",
            "\\\\",
            "\\/",
            "\\'",
            "\\\"",
            "\\x41",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\\n",
            "\\\r\n",
            "\\0",
            "\\q",
            "\\v",
            "\u{7f}",
        ]);
        out.push_str(piece);
    }
    out.push_str(quote);
}

fn gap(draw: &mut Draw, out: &mut String) {
    if draw.below(3) == 0 {
        out.push_str(draw.of(&[
            " ",
            "\n",
            "\r\n",
            "\t",
            "\u{a0}",
            "\u{feff}",
            "\u{2029}",
            "\u{b}",
            "\u{3000}",
            "// c '\n",
            "/* ' * */",
            "//\r",
            "/**/",
            "  ",
        ]));
    }
}
