//! Text as it may stand on a page. In: what the agent saw. Out: HTML that says the same and means nothing else.

/// Text as it may stand in HTML, also inside double quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Text in which backticks set names off, as HTML. Where they do not pair up, all are shown.
pub fn prose(text: &str) -> String {
    let pieces: Vec<String> = text.split('`').map(escaped).collect();
    if pieces.len().is_multiple_of(2) {
        return escaped(text);
    }
    let set_off = |(at, piece): (usize, &String)| match at % 2 {
        0 => piece.clone(),
        _ => format!("<code>{piece}</code>"),
    };
    pieces.iter().enumerate().map(set_off).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_backticks_are_set_off() {
        assert_eq!(prose("as in `a&b`; `ago`"), "as in <code>a&amp;b</code>; <code>ago</code>");
        assert_eq!(prose("one ` is text"), "one ` is text");
    }

    #[test]
    fn what_means_something_in_html_is_escaped() {
        assert_eq!(escaped("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }
}
