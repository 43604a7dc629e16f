//! The live page: a few files within the program, made by hand.

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The kind and the text of a file of the page.
pub fn file(path: &str) -> Option<(&'static str, &'static str)> {
    Some(match path {
        "/" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "/page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "/page.js" => (SCRIPT, include_str!("page/page.js")),
        "/charts.js" => (SCRIPT, include_str!("page/charts.js")),
        "/figures.js" => (SCRIPT, include_str!("page/figures.js")),
        "/way.js" => (SCRIPT, include_str!("page/way.js")),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its policy forbids the browser more than this, but a page that needed it would be broken.
    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_has_no_script_within() {
        for path in
            ["/", "/page.css", "/page.js", "/charts.js", "/figures.js", "/way.js", "/icon.svg"]
        {
            let (_, text) = file(path).expect(path);
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for outside in ["http:", "https:", "//cdn", "@import", "innerHTML", "eval("] {
                assert!(!text.contains(outside), "{path} has {outside}");
            }
        }
        let (_, page) = file("/").expect("the page");
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains(" onclick"));
    }
}
