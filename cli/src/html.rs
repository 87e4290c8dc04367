//! The report of `adze check --quantized-vs-float --html`: one file, with its plots as SVG.

use std::fmt::Write as _;

use adze_compiler::quantize::diagnose::{Distance, Histogram, Layer};

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:70em;color:#222}\
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.3em .6em;border-bottom:1px solid #ddd}\
th:first-child,td:first-child{text-align:left;word-break:break-all}small{color:#777}.under{background:#fde8e8}\
.a{fill:#4878d0;stroke:#4878d0}.b{fill:#d65f5f;stroke:#d65f5f}.grid{stroke:#ddd}text{font-size:11px;fill:#555}";

/// Plots go up to this; what is better is drawn at the top.
const MOST_DB: f64 = 80.0;
const SIZE: (f64, f64) = (1000.0, 260.0);
/// Room for the numbers of the axis.
const LEFT: f64 = 40.0;

/// The page for layers in the order of the graph.
pub fn page(title: &str, samples: usize, layers: &[Layer], min_sqnr: Option<f64>) -> String {
    let mut worst: Vec<&Layer> = layers.iter().collect();
    worst.sort_by(|a, b| a.isolated.sqnr().total_cmp(&b.isolated.sqnr()));
    let under = |layer: &Layer| min_sqnr.is_some_and(|least| layer.accumulated.sqnr() < least);
    let below = layers.iter().filter(|layer| under(layer)).count();
    let verdict = min_sqnr.map(|least| format!(", {below} under {least} dB")).unwrap_or_default();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n<p>{1} layers on {samples} samples{verdict}.</p>\n<h2>Signal to noise ratio along the network</h2>\n",
        escape(title),
        layers.len()
    );
    out.push_str(
        "<p><svg width=\"10\" height=\"10\"><rect class=\"a\" width=\"10\" height=\"10\"/></svg> each layer by itself \
        <svg width=\"10\" height=\"10\"><rect class=\"b\" width=\"10\" height=\"10\"/></svg> accumulated, in dB</p>\n",
    );
    out.push_str(&plot(layers, min_sqnr));
    out.push_str(
        "<h2>Layers, worst first</h2>\n<table><tr><th>tensor, nodes<th>alone, dB<th>accumulated, dB<th>cosine\
        <th>max error<th>saturated<th>numbers before and after</tr>\n",
    );
    for layer in worst {
        row(&mut out, layer, under(layer));
    }
    out.push_str("</table></body></html>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn decibels(distance: &Distance) -> String {
    let sqnr = distance.sqnr();
    if sqnr.is_finite() { format!("{sqnr:.1}") } else { "no noise".into() }
}

fn row(out: &mut String, layer: &Layer, under: bool) {
    let class = if under { " class=\"under\"" } else { "" };
    let saturated = layer.saturated.map_or_else(String::new, |share| format!("{:.3} %", 100.0 * share));
    // Writing to a string never fails.
    let _ = writeln!(
        out,
        "<tr{class}><td>{}<br><small>{}</small><td>{}<td>{}<td>{:.5}<td>{:.3e}<td>{saturated}<td>{}</tr>",
        escape(&layer.name),
        escape(&layer.nodes.join(", ")),
        decibels(&layer.isolated),
        decibels(&layer.accumulated),
        layer.accumulated.cosine(),
        layer.accumulated.max_error,
        bars(&layer.histogram)
    );
}

/// Two lines over the layers, and the threshold.
fn plot(layers: &[Layer], min_sqnr: Option<f64>) -> String {
    let (width, height) = SIZE;
    let y = |db: f64| height - 10.0 - db.clamp(0.0, MOST_DB) / MOST_DB * (height - 20.0);
    let x = |at: usize| LEFT + (at as f64 + 0.5) * (width - LEFT) / layers.len().max(1) as f64;
    let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" width=\"100%\" role=\"img\">\n");
    for db in (0..=8u8).map(|step| f64::from(step) * 10.0) {
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{width}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><text x=\"8\" y=\"{1:.1}\">{db}</text>",
            y(db),
            y(db) + 4.0
        );
    }
    if let Some(least) = min_sqnr {
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{width}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#222\" stroke-dasharray=\"4\"/>",
            y(least)
        );
    }
    for (class, accumulated) in [("a", false), ("b", true)] {
        let of = |layer: &Layer| if accumulated { layer.accumulated.sqnr() } else { layer.isolated.sqnr() };
        let points: Vec<String> =
            layers.iter().enumerate().map(|(at, layer)| format!("{:.1},{:.1}", x(at), y(of(layer)))).collect();
        let _ = writeln!(out, "<polyline class=\"{class}\" style=\"fill:none\" points=\"{}\"/>", points.join(" "));
        for (at, layer) in layers.iter().enumerate() {
            let _ = writeln!(
                out,
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"><title>{} {:.1} dB</title></circle>",
                x(at),
                y(of(layer)),
                escape(&layer.name),
                of(layer)
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Counts as bars, those after quantization in front and narrower; heights are logarithms.
fn bars(histogram: &Histogram) -> String {
    let (width, height) = (240.0, 44.0);
    let most = histogram.before.iter().chain(&histogram.after).copied().max().unwrap_or(0);
    let tall = |count: u64| (1.0 + count as f64).ln() / (1.0 + most as f64).ln().max(1e-9) * height;
    let step = width / histogram.before.len().max(1) as f64;
    let mut out = format!("<svg viewBox=\"0 0 {width} {}\" width=\"{width}\">", height + 14.0);
    for (class, counts, share) in [("a", &histogram.before, 0.9), ("b", &histogram.after, 0.4)] {
        for (at, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" style=\"stroke:none\"/>",
                at as f64 * step,
                height - tall(count),
                step * share,
                tall(count)
            );
        }
    }
    let [low, high] = histogram.ends;
    let _ = write!(
        out,
        "<text x=\"0\" y=\"{0}\">{low:.3}</text><text x=\"{width}\" y=\"{0}\" text-anchor=\"end\">{high:.3}</text></svg>",
        height + 12.0
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> Layer {
        Layer {
            name: name.into(),
            nodes: vec!["a<b".into()],
            isolated: Distance::default(),
            accumulated: Distance::default(),
            saturated: Some(0.5),
            histogram: Histogram { ends: [0.0, 1.0], before: vec![3, 0], after: vec![2, 1] },
        }
    }

    #[test]
    fn names_are_escaped_and_nothing_is_fetched() {
        let text = page("<&>", 2, &[layer("\"x\""), layer("y")], Some(10.0));
        assert!(text.contains("&lt;&amp;&gt;") && text.contains("a&lt;b") && text.contains("&quot;x&quot;"));
        assert!(!text.contains("http") && !text.contains("<script") && !text.contains("NaN"));
        assert_eq!(text.matches("<tr").count(), 3);
        assert_eq!(text.matches("class=\"a\" x=").count(), 2, "a bar for every part that is not empty");
        assert!(page("t", 0, &[], None).contains("0 layers"));
    }
}
