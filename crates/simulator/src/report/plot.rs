//! Plots as inline SVG: lines over time, and ranges on a logarithmic scale. Colours come from the page's style.

use std::fmt::Write;

use super::text::span;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
/// Colours that the page's style has.
pub(super) const COLOURS: usize = 8;

/// A line of a plot.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) values: &'a [f64],
}

/// How a vertical axis is labelled.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Percent,
    Seconds,
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.0} %", value * 100.0),
            Self::Seconds => span(value).replace(".0 ", " "),
            Self::Count if value >= 10_000.0 => format!("{:.0}k", value / 1_000.0),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// The distance of about four gridlines up to `max`.
    fn step(self, max: f64) -> f64 {
        let wanted = max / 4.0;
        match self {
            Self::Seconds => {
                let nice = [
                    1.0,
                    5.0,
                    15.0,
                    60.0,
                    300.0,
                    900.0,
                    1_800.0,
                    3_600.0,
                    10_800.0,
                    21_600.0,
                    43_200.0,
                    86_400.0,
                    172_800.0,
                    432_000.0,
                    864_000.0,
                    2_592_000.0,
                    7_776_000.0,
                ];
                nice.into_iter().find(|step| *step >= wanted).unwrap_or_else(|| nice_step(wanted))
            }
            Self::Percent => nice_step(wanted).max(0.01),
            Self::Count => nice_step(wanted).max(1.0),
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least `wanted`.
fn nice_step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|s| *s >= wanted * 0.999)
        .unwrap_or(power * 10.0)
}

/// Lines over time, from 0 up to the largest value (or `top`, if that is given).
pub(super) fn lines(
    lines: &[Line<'_>],
    bucket_s: f64,
    unit: Unit,
    top: Option<f64>,
    marks: &[(f64, String)],
) -> String {
    let buckets = lines.iter().map(|l| l.values.len()).max().unwrap_or(0);
    let highest = lines.iter().flat_map(|l| l.values).copied().fold(0.0, f64::max);
    let step = unit.step(top.unwrap_or(highest).max(1e-9));
    let max = top.unwrap_or_else(|| (highest / step).ceil().max(1.0) * step);
    let whole_s = bucket_s * buckets.max(1) as f64;
    let x = |s: f64| LEFT + (WIDTH - LEFT - RIGHT) * (s / whole_s).min(1.0);
    let y = |v: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (v / max).min(1.0));
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    let mut level = 0.0;
    while level <= max * 1.001 {
        let at = y(level);
        _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
        _ = write!(
            svg,
            "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            at + 5.0,
            unit.show(level)
        );
        level += step;
    }
    for (at, label) in time_ticks(whole_s) {
        let (x, bottom) = (x(at), HEIGHT - BOTTOM);
        _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>",
            bottom + 4.0
        );
        _ = write!(svg, "<text class=\"x\" x=\"{x:.1}\" y=\"{}\">{label}</text>", HEIGHT - 10.0);
    }
    for (at, what) in marks {
        let x = x(*at);
        let end = HEIGHT - BOTTOM;
        _ = write!(
            svg,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{end}\"><title>{}</title></line>",
            escape(what)
        );
    }
    for (i, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for (bucket, value) in line.values.iter().enumerate() {
            let (x, y) = (x((bucket as f64 + 0.5) * bucket_s), y(*value));
            _ = write!(path, "{}{x:.1} {y:.1}", if bucket == 0 { "M" } else { "L" });
        }
        let name = escape(line.name);
        _ = write!(svg, "<path class=\"line c{}\" d=\"{path}\"><title>{name}</title></path>", i % COLOURS);
    }
    svg + "</svg>"
}

/// About six ticks over so long, in the largest unit of which there are at least two.
fn time_ticks(whole_s: f64) -> Vec<(f64, String)> {
    let (unit_s, unit) = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s")]
        .into_iter()
        .find(|(s, _)| whole_s >= 2.0 * s)
        .unwrap_or((1.0, "s"));
    let step = nice_step(whole_s / unit_s / 7.0).max(1.0);
    let ticks = (0..20).map(|i| f64::from(i) * step).take_while(|t| t * unit_s <= whole_s);
    ticks.map(|t| (t * unit_s, format!("{t:.0} {unit}"))).collect()
}

/// A legend for [`lines`].
pub(super) fn legend(names: &[&str]) -> String {
    let entry = |(i, name): (usize, &&str)| {
        format!("<span><i class=\"b{}\"></i>{}</span>", i % COLOURS, escape(name))
    };
    format!("<p class=\"legend\">{}</p>", names.iter().enumerate().map(entry).collect::<String>())
}

/// A row of [`ranges`]: its name and its median, p95, p99 and maximum in seconds.
pub(super) struct Range<'a> {
    pub(super) name: &'a str,
    pub(super) points: [f64; 4],
}

/// A row per range on a logarithmic scale of seconds; what is below a second stands at the left edge.
pub(super) fn ranges(rows: &[Range<'_>]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 130.0;
    let highest = rows.iter().map(|r| r.points[3]).fold(60.0, f64::max);
    let height = TOP + BOTTOM + ROW * rows.len() as f64;
    let x = |s: f64| NAMES + (WIDTH - NAMES - RIGHT - 12.0) * (s.max(1.0).ln() / highest.ln()).min(1.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    let marks = [1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0];
    let names = ["≤ 1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 d", "7 d", "30 d"];
    for (mark, name) in marks.into_iter().zip(names).filter(|(mark, _)| *mark <= highest) {
        let (x, end) = (x(mark), height - BOTTOM);
        _ = write!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{end}\"/>");
        _ = write!(svg, "<text class=\"x\" x=\"{x:.1}\" y=\"{}\">{name}</text>", height - 10.0);
    }
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let [p50, p95, p99, max] = row.points.map(x);
        _ = write!(
            svg,
            "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
            NAMES - 10.0,
            y + 5.0,
            escape(row.name)
        );
        _ = write!(svg, "<line class=\"thin\" x1=\"{p50:.1}\" x2=\"{max:.1}\" y1=\"{y}\" y2=\"{y}\"/>");
        _ = write!(svg, "<line class=\"thick\" x1=\"{p50:.1}\" x2=\"{p95:.1}\" y1=\"{y}\" y2=\"{y}\"/>");
        let shown = row.points.map(span);
        for (at, class, what) in [(max, "max", 3), (p99, "p99", 2), (p95, "p95", 1), (p50, "p50", 0)] {
            let radius = if what == 3 { 2.5 } else { 4.0 };
            _ = write!(
                svg,
                "<circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{y}\" r=\"{radius}\"><title>{}: {class} {}</title></circle>",
                escape(row.name),
                shown[what]
            );
        }
    }
    svg + "</svg>"
}

/// Text inside a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_nice() {
        assert_eq!(
            [0.3, 1.0, 3.0, 7.0, 23.0].map(|w| format!("{:.1}", nice_step(w))),
            ["0.5", "1.0", "5.0", "10.0", "50.0"]
        );
        let ticks = time_ticks(600.0 * 86_400.0);
        assert!((5..=9).contains(&ticks.len()) && ticks[1].1 == "100 d", "{ticks:?}");
        assert_eq!(time_ticks(90.0)[1].1, "20 s");
    }

    #[test]
    fn names_are_escaped_and_nothing_is_not_a_number() {
        let svg = lines(&[Line { name: "<a&b>", values: &[0.0, 0.0] }], 1.0, Unit::Seconds, None, &[]);
        assert!(svg.contains("&lt;a&amp;b&gt;") && !svg.contains("NaN") && !svg.contains("inf"));
        let empty = lines(&[], 1.0, Unit::Count, None, &[]) + &ranges(&[]);
        assert!(!empty.contains("NaN") && !empty.contains("inf"));
    }
}
