//! Words that are secrets because of the word before them: `--password X`, `mysql -pX`, `Bearer X`.

use super::{assign, keys, line::Marks};
use crate::enrich::text::{base_name, is_listed};
use std::ops::Range;

/// Command lines quoted inside command lines that are followed (`sh -c "sh -c '...'"`).
const QUOTES_DEEP: u32 = 3;
/// Options of any tool that take `user:password`.
const PAIR_OPTIONS: &str = "--user --proxy-user --basic-auth --credentials";

/// Short options of one tool whose value is a secret.
struct Tool {
    /// The value is the next word.
    next: &'static str,
    /// The value is the rest of the word.
    attached: &'static str,
    /// The value is `user:password`, of which the second half is taken.
    pair: &'static str,
    /// Only after this word (`docker login`); empty = always.
    after: &'static str,
    /// With this letter among its options, the last word of the line is the secret.
    last: Option<u8>,
}

const PLAIN: Tool = Tool { next: "", attached: "", pair: "", after: "", last: None };
static NO_TOOL: Tool = PLAIN;
static MYSQL: Tool = Tool { attached: "-p", ..PLAIN };
static DASH_P: Tool = Tool { next: "-p", attached: "-p", ..PLAIN };
static LOGIN: Tool = Tool { next: "-p", attached: "-p", after: "login", ..PLAIN };
static REDIS: Tool = Tool { next: "-a", attached: "-a", ..PLAIN };
static LDAP: Tool = Tool { next: "-w -s", attached: "-w", ..PLAIN };
static CAPITAL_P: Tool = Tool { next: "-P", attached: "-P", ..PLAIN };
static OPENSSL: Tool = Tool { next: "-k -K", ..PLAIN };
static SNMP: Tool = Tool { next: "-c -A -X", ..PLAIN };
static CURL: Tool = Tool { attached: "-u", pair: "-u -U -E --cert --proxy-cert", ..PLAIN };
static HTTPIE: Tool = Tool { pair: "-a", ..PLAIN };
static SAMBA: Tool = Tool { pair: "-U", ..PLAIN };
static HTPASSWD: Tool = Tool { last: Some(b'b'), ..PLAIN };

/// The rules of a tool, by its base name.
fn tool(name: &[u8]) -> Option<&'static Tool> {
    Some(match name {
        b"mysql" | b"mysqldump" | b"mysqladmin" | b"mysqlshow" | b"mysqlcheck" | b"mysqlimport" => &MYSQL,
        b"mariadb" | b"mariadb-dump" | b"mariadb-admin" | b"7z" | b"7za" | b"7zr" => &MYSQL,
        b"sshpass" | b"mongo" | b"mongosh" | b"mongodump" | b"mongorestore" | b"useradd" | b"usermod" => {
            &DASH_P
        }
        b"docker" | b"podman" | b"nerdctl" | b"buildah" | b"skopeo" | b"helm" | b"oras" | b"crane"
        | b"az" => &LOGIN,
        b"redis-cli" => &REDIS,
        b"ldapsearch" | b"ldapadd" | b"ldapmodify" | b"ldapdelete" | b"ldapwhoami" | b"ldappasswd" => &LDAP,
        b"sqlcmd" | b"bcp" | b"ipmitool" | b"zip" | b"unzip" => &CAPITAL_P,
        b"openssl" => &OPENSSL,
        b"snmpget" | b"snmpwalk" | b"snmpset" | b"snmpbulkwalk" | b"snmptrap" => &SNMP,
        b"curl" => &CURL,
        b"http" | b"https" | b"xh" => &HTTPIE,
        b"smbclient" => &SAMBA,
        b"htpasswd" => &HTPASSWD,
        _ => return None,
    })
}

/// Marks the secrets among the words of a line. The tool is whichever word last named one, so that wrappers
/// and shell text need no rules of their own.
pub(super) fn mark(bytes: &[u8], words: &[Range<usize>], marks: &mut Marks) {
    let mut current = &NO_TOOL;
    let mut armed = false;
    let mut before: &[u8] = b"";
    for (at, range) in words.iter().enumerate() {
        let word = &bytes[range.clone()];
        let next = words.get(at + 1).cloned().unwrap_or(range.end..range.end);
        if let Some(found) = tool(base_name(word)) {
            current = found;
            armed = found.after.is_empty();
        }
        armed |= word == current.after.as_bytes();
        if announces(before, word, &bytes[next.clone()]) {
            marks.add(next);
        } else if word.starts_with(b"-") {
            option(bytes, range.clone(), next, if armed { current } else { &NO_TOOL }, marks);
            if let (Some(letter), Some(last)) = (current.last, words.last())
                && word.contains(&letter)
            {
                marks.add(last.clone());
            }
        }
        before = word;
    }
}

/// Marks the value of one option by the tool's rules, or of any tool's `--user`.
fn option(bytes: &[u8], range: Range<usize>, next: Range<usize>, tool: &Tool, marks: &mut Marks) {
    let word = &bytes[range.clone()];
    let name = word.split(|byte| *byte == b'=').next().unwrap_or(word);
    if word.starts_with(b"--") && is_listed(PAIR_OPTIONS, name) {
        let attached = range.start + name.len() + 1..range.end;
        marks.add_second_half(bytes, if name.len() < word.len() { attached } else { next });
    } else if is_listed(tool.pair, word) {
        marks.add_second_half(bytes, next);
    } else if is_listed(tool.next, word) {
        marks.add(next);
    } else if word.len() > 2 && is_listed(tool.attached, &word[..2]) {
        let attached = range.start + 2..range.end;
        if is_listed(tool.pair, &word[..2]) {
            marks.add_second_half(bytes, attached);
        } else {
            marks.add(attached);
        }
    }
}

/// Whether `word` says that the next word is a secret.
fn announces(before: &[u8], word: &[u8], next: &[u8]) -> bool {
    let told = match word {
        [b'-', b'-', name @ ..] | [b'-', name @ ..] => {
            !name.contains(&b'=') && name.len() > 1 && keys::is_secret(name)
        }
        [header @ .., b':'] => keys::is_secret(header),
        _ => {
            let quotes = |byte: &u8| matches!(byte, b'"' | b'\'' | b':' | b'=');
            let bare = &word[word.iter().rposition(quotes).map_or(0, |quote| quote + 1)..];
            let is = |name: &str| bare.eq_ignore_ascii_case(name.as_bytes());
            match bare.len() {
                2 => is("by") && before.eq_ignore_ascii_case(b"identified"),
                // `Authorization: Basic dXNlcjpwYXNz`
                5 => is("basic") && next.len() >= 8,
                6 => is("bearer"),
                7 => is("wpa-psk"),
                8 => is("password"),
                10 => is("passphrase") || is("masterauth"),
                11 => is("requirepass"),
                _ => false,
            }
        }
    };
    told && !next.starts_with(b"--") && !is_listed(assign::SWITCHES, next)
}

/// Marks the secrets in a word that is a command line itself (`sh -c '...'`), and in those quoted within it.
pub(super) fn mark_inside(bytes: &[u8], range: Range<usize>, marks: &mut Marks) {
    mark_text(bytes, range, 0, marks);
}

fn mark_text(bytes: &[u8], range: Range<usize>, depth: u32, marks: &mut Marks) {
    let words = split_text(bytes, range);
    mark(bytes, &words, marks);
    for word in words {
        let text = &bytes[word.clone()];
        let is_quote = |byte: &&u8| matches!(byte, b'"' | b'\'' | b'\\');
        let opening = text.iter().take_while(is_quote).count();
        if opening > 0 && depth < QUOTES_DEEP && text.iter().any(u8::is_ascii_whitespace) {
            let closing = text.iter().rev().take(opening).take_while(is_quote).count();
            mark_text(bytes, word.start + opening..word.end - closing, depth + 1, marks);
        }
    }
}

/// Words of a text as a shell would split it: by white space outside quotes.
fn split_text(bytes: &[u8], range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = range.start;
    let mut at = range.start;
    while at < range.end {
        if bytes[at].is_ascii_whitespace() {
            if at > start {
                words.push(start..at);
            }
            at += 1;
            start = at;
        } else {
            at = assign::past_quotes(bytes, at, range.end).max(at + 1);
        }
    }
    if range.end > start {
        words.push(start..range.end);
    }
    words
}
