//! What `yard dev` shows while it prepares: a line per step, moving on a terminal, plain elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The steps on show.
#[derive(Debug, Clone)]
pub struct Ui {
    bars: MultiProgress,
    moving: bool,
}

/// One step. Ended without a word, it disappears.
#[derive(Debug)]
pub struct Step {
    name: &'static str,
    bar: ProgressBar,
    ui: Ui,
}

impl Ui {
    /// On standard error.
    pub fn new() -> Self {
        Self { bars: MultiProgress::new(), moving: std::io::stderr().is_terminal() }
    }

    /// Begins a step.
    pub fn step(&self, name: &'static str, message: &str) -> Step {
        let bar = self.bars.add(ProgressBar::new_spinner());
        // The template is a constant; should it ever be wrong, the plain spinner does.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:12} {wide_msg} {elapsed:>5}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        bar.set_prefix(name);
        if self.moving {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        let step = Step { name, bar, ui: self.clone() };
        step.tell(message);
        step
    }

    /// Whether lines can be overwritten.
    pub fn is_moving(&self) -> bool {
        self.moving
    }

    /// A line of its own below the others, without a style.
    pub fn bar(&self, length: u64) -> ProgressBar {
        self.bars.add(ProgressBar::new(length))
    }

    /// A line that stays.
    pub fn line(&self, line: &str) {
        if self.moving && self.bars.println(line).is_ok() {
            return;
        }
        eprintln!("{line}");
    }
}

impl Default for Ui {
    fn default() -> Self {
        Self::new()
    }
}

impl Step {
    /// What it does now; a line of its own where nothing moves.
    pub fn tell(&self, message: &str) {
        self.show(message);
        if !self.ui.moving {
            eprintln!("  {:12} {message}", self.name);
        }
    }

    /// What it does now in detail; shown only where it can be overwritten.
    pub fn show(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }

    /// It is done; `message` stays, as a plain line: a bar would be drawn over.
    pub fn done(self, message: &str) {
        let line = format!("✓ {:12} {message}", self.name);
        self.bar.finish_and_clear();
        self.ui.line(&line);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}
