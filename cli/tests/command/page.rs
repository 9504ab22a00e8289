// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every page of results has: well-formed text that loads nothing, and a description of the run.

/// Asserts that a page loads nothing, that its elements are closed in order, and that its links lead
/// to its own sections.
#[track_caller]
pub(crate) fn assert_is_self_contained(page: &str) {
    for outside in ["src=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let links = page.split("href=\"").skip(1);
    let links: Vec<_> = links.filter_map(|rest| rest.split('"').next()).collect();
    assert!(!links.is_empty(), "no contents in {page}");
    for link in links {
        let id = link.strip_prefix('#').expect("a link within the page");
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    assert_eq!(unbalanced(page), None);
}

/// Asserts that the top of a page has the version, the time, the machine and a summary.
#[track_caller]
pub(crate) fn assert_describes_its_run(page: &str) {
    let top = page.split("<h2>Contents</h2>").next().unwrap();
    let version = format!("netpoll {}", env!("CARGO_PKG_VERSION"));
    for part in [
        &version,
        " UTC. ",
        " processors, Linux ",
        "<h2>Summary</h2>",
    ] {
        assert!(top.contains(part), "{part} in {top}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

/// Returns the first element that is not closed in order.
fn unbalanced(page: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>')?;
        let name =
            |tag: &'_ str| tag.len() - tag.trim_start_matches(|c: char| !" \n/".contains(c)).len();
        match tag.strip_prefix('/') {
            Some(closed) if open.pop() != Some(closed) => return Some(closed.to_owned()),
            Some(_) => {}
            None if tag.ends_with('/')
                || tag.starts_with(['!', '?'])
                || tag.starts_with("meta") => {}
            None => open.push(&tag[..name(tag)]),
        }
    }
    open.pop().map(str::to_owned)
}

#[test]
fn an_element_that_is_not_closed_in_order_is_detected() {
    assert_eq!(
        unbalanced("<!doctype html><p class=\"a\"><b>x</b><i/></p>"),
        None
    );
    assert_eq!(unbalanced("<p><b>x</p></b>").as_deref(), Some("p"));
    assert_eq!(unbalanced("<p>x").as_deref(), Some("p"));
}
