//! A roofline chart as SVG: operations a second over operations per byte, both axes logarithmic. What a machine can do is
//! the roof, every kernel a point below it. The same profile gives the same bytes.

use std::fmt::Write as _;

use adze_compiler::profile::{Profile, Step};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
/// Left, right, top and bottom of the plot.
const PLOT: (f64, f64, f64, f64) = (80.0, 700.0, 50.0, 540.0);
/// Kernels that get a number and a line of the legend.
const NAMED: usize = 16;
/// Letters of a line of the legend.
const LEGEND_CHARS: usize = 28;
const INK: &str = "#222222";
const GRID: &str = "#dddddd";
const COMPUTE: &str = "#b03030";
const INT_COMPUTE: &str = "#a06000";
const MEMORY: &str = "#2060a0";

/// Powers of ten that an axis spans, and where they lie.
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10).collect();
        let first = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let last = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Without a value there is nothing to draw, but still a chart.
        let (first, last) = if first <= last { (first.floor() as i32, last.ceil() as i32) } else { (0, 1) };
        Self { first, last: last.max(first + 1), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

fn ops(step: &Step) -> f64 {
    (step.flops + step.int_ops) as f64
}

fn intensity(step: &Step) -> f64 {
    ops(step) / step.touched_bytes.max(1) as f64
}

/// The chart. Kernels that compute nothing have no place in it.
pub fn roofline(profile: &Profile) -> String {
    let mut steps: Vec<&Step> = profile.steps.iter().filter(|s| ops(s) > 0.0 && s.seconds > 0.0).collect();
    steps.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then(a.node.cmp(&b.node)));
    let peaks = &profile.peaks;
    let integers = steps.iter().any(|s| s.int_ops > s.flops);
    let top = if integers { peaks.flops.max(peaks.int_ops) } else { peaks.flops };
    let (left, right, up, down) = PLOT;
    // Where the slowest memory's roof meets the peak has to be seen.
    let ridge = peaks.levels.iter().map(|l| top / l.bytes_per_second).fold(1.0, f64::max);
    let x = Axis::new(steps.iter().map(|s| intensity(s)).chain([0.1, ridge * 2.0]), left, right);
    let y = Axis::new(steps.iter().map(|s| ops(s) / s.seconds / 1e9).chain([top / 1e9]), down, up);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">"
    );
    let _ = writeln!(out, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>");
    let title =
        format!("{} on {}: {:.0} us in kernels, one core", profile.model, profile.target, profile.seconds * 1e6);
    text(&mut out, (left, 28.0), "font-size=\"16\"", &title);
    grid(&mut out, &x, &y);
    roofs(&mut out, profile, integers, &x, &y);
    for (index, step) in steps.iter().enumerate().rev() {
        point(&mut out, profile, index, step, &x, &y);
    }
    legend(&mut out, profile, &steps);
    out.push_str("</svg>\n");
    out
}

fn text(out: &mut String, (x, y): (f64, f64), attributes: &str, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let plain: String = escaped.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{plain}</text>");
}

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), color: &str, attributes: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\" {attributes}/>"
    );
}

fn power(exponent: i32) -> String {
    if (-3..6).contains(&exponent) { 10f64.powi(exponent).to_string() } else { format!("1e{exponent}") }
}

fn grid(out: &mut String, x: &Axis, y: &Axis) {
    let (left, right, up, down) = PLOT;
    for exponent in x.first..=x.last {
        let at = x.at(10f64.powi(exponent));
        line(out, (at, up), (at, down), GRID, "");
        text(out, (at, down + 18.0), "text-anchor=\"middle\"", &power(exponent));
    }
    for exponent in y.first..=y.last {
        let at = y.at(10f64.powi(exponent));
        line(out, (left, at), (right, at), GRID, "");
        text(out, (left - 8.0, at + 4.0), "text-anchor=\"end\"", &power(exponent));
    }
    text(out, ((left + right) / 2.0, down + 42.0), "text-anchor=\"middle\"", "operations per byte of memory touched");
    let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 24 {:.1})\"", (up + down) / 2.0);
    text(out, (24.0, (up + down) / 2.0), &turned, "10^9 operations a second");
}

/// A slope for every level of memory up to the highest peak, and a level line for every peak.
fn roofs(out: &mut String, profile: &Profile, integers: bool, x: &Axis, y: &Axis) {
    let peaks = &profile.peaks;
    let top = if integers { peaks.flops.max(peaks.int_ops) } else { peaks.flops };
    let (first, last) = (10f64.powi(x.first), 10f64.powi(x.last));
    let lowest = 10f64.powi(y.first) * 1e9;
    for (index, level) in peaks.levels.iter().enumerate() {
        let start = first.max(lowest / level.bytes_per_second);
        let end = top / level.bytes_per_second;
        if start >= end {
            continue;
        }
        let at = |per_byte: f64| (x.at(per_byte), y.at(per_byte * level.bytes_per_second / 1e9));
        let (from, to) = (at(start), at(end));
        line(out, from, to, MEMORY, "stroke-width=\"1.5\"");
        let label = format!("{} {:.0} GB/s", level.name, level.bytes_per_second / 1e9);
        let angle = (to.1 - from.1).atan2(to.0 - from.0).to_degrees();
        // Levels can be as fast as each other: their names stand apart all the same.
        let along = 0.3 + 0.15 * (index % 4) as f64;
        let middle = (from.0 + along * (to.0 - from.0), from.1 + along * (to.1 - from.1) - 4.0);
        let turned = format!(
            "text-anchor=\"middle\" fill=\"{MEMORY}\" transform=\"rotate({angle:.1} {:.1} {:.1})\"",
            middle.0, middle.1
        );
        text(out, middle, &turned, &label);
    }
    let nearest = peaks.levels.first().map_or(1.0, |level| level.bytes_per_second);
    let mut peak = |what: &str, value: f64, color: &str| {
        let at = y.at(value / 1e9);
        let start = (value / nearest).max(first);
        line(out, (x.at(start), at), (x.at(last), at), color, "stroke-width=\"1.5\"");
        let label = format!("{what} {:.0}", value / 1e9);
        text(out, (x.at(last), at - 5.0), &format!("text-anchor=\"end\" fill=\"{color}\""), &label);
    };
    peak("f32 peak", peaks.flops, COMPUTE);
    if integers {
        peak("int8 peak", peaks.int_ops, INT_COMPUTE);
    }
}

/// A kernel: its area is its share of the time.
fn point(out: &mut String, profile: &Profile, index: usize, step: &Step, x: &Axis, y: &Axis) {
    let (at_x, at_y) = (x.at(intensity(step)), y.at(ops(step) / step.seconds / 1e9));
    let radius = 3.0 + 22.0 * (step.seconds / profile.seconds).sqrt();
    let color = if step.int_ops > step.flops { INT_COMPUTE } else { COMPUTE };
    let _ = writeln!(
        out,
        "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"{radius:.1}\" fill=\"{color}\" fill-opacity=\"0.25\" stroke=\"{color}\"/>"
    );
    if index < NAMED {
        text(out, (at_x, at_y + 4.0), "text-anchor=\"middle\" font-size=\"11\"", &(index + 1).to_string());
    }
}

fn legend(out: &mut String, profile: &Profile, steps: &[&Step]) {
    let left = PLOT.1 + 16.0;
    for (index, step) in steps.iter().take(NAMED).enumerate() {
        let at = PLOT.2 + 8.0 + 30.0 * index as f64;
        let name = step.source.first().unwrap_or(&step.kernel);
        let name: String = name.chars().take(LEGEND_CHARS).collect();
        text(out, (left, at), "", &format!("{} {name}", index + 1));
        let share = 100.0 * step.seconds / profile.seconds;
        let detail = format!("{share:.1}% of time, {:.0}% of peak, {}", 100.0 * step.peak_share, step.limit);
        text(out, (left, at + 13.0), "font-size=\"10\" fill=\"#666666\"", &detail);
    }
}

#[cfg(test)]
mod tests {
    use adze_compiler::profile::{Profile, Step};
    use adze_targets::cpu::peak::{Level, Peaks};

    use super::roofline;

    #[test]
    fn a_chart_is_well_formed_and_the_same_every_time() {
        let step = |node, flops, seconds| Step {
            node,
            kernel: "gemm".into(),
            source: vec!["a<b>&c".into()],
            calls: 1,
            seconds,
            flops,
            int_ops: 0,
            moved_bytes: 4096,
            touched_bytes: 1024,
            peak_share: 0.5,
            limit: "compute".into(),
            limit_share: 0.5,
        };
        let levels = vec![Level { name: "L1".into(), bytes: 1 << 15, bytes_per_second: 1e11 }];
        let steps = vec![step(0, 1 << 20, 1e-5), step(1, 1 << 10, 1e-5), step(2, 0, 1e-6)];
        let peaks = Peaks { flops: 1e11, int_ops: 4e11, levels };
        let profile = Profile { model: "m".into(), target: "t".into(), peaks, seconds: 2.1e-5, steps };
        let chart = roofline(&profile);
        assert_eq!(chart, roofline(&profile));
        assert_eq!(chart.matches("<circle").count(), 2);
        assert!(chart.contains("a&lt;b&gt;&amp;c") && !chart.contains("NaN"));
        assert!(chart.starts_with("<svg") && chart.ends_with("</svg>\n"));
    }
}
