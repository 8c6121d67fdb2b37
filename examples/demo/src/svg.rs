//! Drawings as SVG: a page that grows by boxes, lines and text.

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::path::PathBuf;

use crate::Result;

/// A file that was opened while the host's file system was still in view.
pub(crate) struct File {
    path: PathBuf,
    file: std::fs::File,
}

/// A drawing. Lengths are in pixels, positions in pixels from the upper left corner.
pub(crate) struct Page {
    text: String,
}

/// Space around things, in pixels.
pub(crate) const GAP: usize = 24;

impl File {
    pub(crate) fn create(path: &PathBuf) -> Result<Self> {
        let file = std::fs::File::create(path)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self {
            path: path.clone(),
            file,
        })
    }

    pub(crate) fn write(mut self, page: Page) -> Result<()> {
        self.file
            .write_all(page.finish().as_bytes())
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        println!("drawn in {}", self.path.display());
        Ok(())
    }
}

impl Page {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self {
            text: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
                 height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
                 <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
            ),
        }
    }

    /// A box with a title and lines of text.
    pub(crate) fn boxed<T: Display>(
        &mut self,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
        fill: &str,
        title: &str,
        lines: &[T],
    ) {
        let _ = writeln!(
            self.text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{fill}\" stroke=\"#566573\"/>\n\
             <text x=\"{}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
            x + 12,
            y + 22
        );
        for (position, text) in lines.iter().enumerate() {
            self.label((x + 12, y + 42 + position * 18), text);
        }
    }

    pub(crate) fn label(&mut self, (x, y): (usize, usize), text: impl Display) {
        let _ = writeln!(
            self.text,
            "<text x=\"{x}\" y=\"{y}\" fill=\"#212f3d\">{text}</text>"
        );
    }

    pub(crate) fn line(&mut self, (x1, y1): (usize, usize), (x2, y2): (usize, usize)) {
        let _ = writeln!(
            self.text,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"#566573\" stroke-width=\"2\"/>"
        );
    }

    /// A packet's way: dashes in colour over everything else, with an arrow at its end.
    pub(crate) fn way(&mut self, points: &[(usize, usize)], colour: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        let _ = writeln!(
            self.text,
            "<marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"5\" markerHeight=\"5\" \
             orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"{colour}\"/></marker>\n\
             <polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"4\" stroke-dasharray=\"10 5\" \
             stroke-linejoin=\"round\" marker-end=\"url(#arrow)\"/>",
            points.join(" ")
        );
    }

    fn finish(self) -> String {
        self.text + "</svg>\n"
    }
}
