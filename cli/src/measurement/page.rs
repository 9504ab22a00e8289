// SPDX-License-Identifier: MIT OR Apache-2.0
//! The frame of a page of results: one file, nothing loaded from anywhere.

/// From the beginning of the file to where the content goes.
pub(crate) fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n"
    )
}

/// One subject: its title, what has to be known of it, and what is shown.
pub(crate) fn section(title: &str, words: &str, content: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n<p>{words}</p>\n{content}</section>\n")
}

/// From behind the content to the end of the file.
pub(crate) fn end() -> String {
    String::from("</main>\n</body>\n</html>\n")
}

/// Text that comes from elsewhere.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_cannot_become_markup() {
        assert_eq!(escaped("a<b> & c"), "a&lt;b> &amp; c");
    }
}
