// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTML frame of a results page: one self-contained file that loads nothing.

/// Returns the HTML before the content.
pub(crate) fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n"
    )
}

/// Returns a section: title, explanation and content.
pub(crate) fn section(title: &str, words: &str, content: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n<p>{words}</p>\n{content}</section>\n")
}

/// Returns the HTML after the content.
pub(crate) fn end() -> String {
    String::from("</main>\n</body>\n</html>\n")
}

/// Escapes text for HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_html() {
        assert_eq!(escaped("a<b> & c"), "a&lt;b> &amp; c");
    }
}
