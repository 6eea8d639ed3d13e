//! A replay as a person watches it: when to draw what.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::time::Duration;

use super::replay::{Played, Replay, ReplayError};
use super::screen::Screen;
use super::visible::visible;
use crate::transcript::{Event, Outcome, Stream};

/// How fast a replay goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    speed: f64,
    idle: Option<Duration>,
}

impl Schedule {
    /// `speed` 2 is twice as fast; no pause is longer than `idle`, at the original speed.
    pub fn new(speed: f64, idle: Option<Duration>) -> Result<Self, String> {
        if !(0.01..=1000.0).contains(&speed) {
            return Err(format!("a speed of {speed} is out of range: 0.01 to 1000"));
        }
        Ok(Self { speed, idle })
    }

    /// Returns how long to wait between two events.
    pub fn delay(&self, before: Duration, next: Duration) -> Duration {
        let pause = next.saturating_sub(before);
        self.idle.map_or(pause, |idle| pause.min(idle)).div_f64(self.speed)
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { speed: 1.0, idle: None }
    }
}

/// Wait, then write `draw` to the auditor's terminal as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub delay: Duration,
    /// When in the recording this is.
    pub at: Duration,
    pub draw: String,
}

/// Pictures closer than this are drawn as one.
const SHORTEST: Duration = Duration::from_millis(16);

/// Plays a recording: with a terminal on a [`Screen`], without one as text.
#[derive(Debug)]
pub struct Player<R = File> {
    replay: Replay<R>,
    schedule: Schedule,
    view: View,
    /// Events before this time are drawn at once.
    from: Duration,
    last: Duration,
    ahead: VecDeque<Result<Played, ReplayError>>,
    finished: bool,
}

#[derive(Debug)]
enum View {
    Screen(Box<Screen>),
    /// Text that waits to be drawn, and whether the last line is whole.
    Text {
        pending: String,
        at_line_start: bool,
    },
}

impl<R: Read + Seek> Player<R> {
    /// `terminal` is the auditor's own size, where it is one.
    pub fn new(replay: Replay<R>, schedule: Schedule, terminal: Option<(u32, u32)>) -> Self {
        let view = match &replay.header().terminal {
            Some((cols, rows, _)) => {
                let mut screen = Screen::new(*cols, *rows);
                if let Some((cols, rows)) = terminal {
                    screen.fit(cols, rows);
                }
                View::Screen(Box::new(screen))
            }
            None => View::Text { pending: String::new(), at_line_start: true },
        };
        Self { replay, schedule, view, from: Duration::ZERO, last: Duration::ZERO, ahead: VecDeque::new(), finished: false }
    }

    pub fn replay(&self) -> &Replay<R> {
        &self.replay
    }

    /// Begins at a time; what the index lets us read before it is drawn at once.
    pub fn seek(&mut self, to: Duration) -> Result<(), ReplayError> {
        let size = self.replay.seek(to)?;
        if let (View::Screen(screen), Some((cols, rows))) = (&mut self.view, size) {
            screen.resize(cols, rows);
        }
        (self.from, self.last) = (to, to);
        self.ahead.clear();
        self.finished = false;
        Ok(())
    }

    /// Returns the next thing to draw; nothing at the end.
    pub fn step(&mut self) -> Result<Option<Step>, ReplayError> {
        let (mut delay, mut held) = (Duration::ZERO, Duration::ZERO);
        while let Some(played) = self.take()? {
            delay += self.pause_before(&played);
            self.show(&played.event);
            // More comes within a blink of an eye: draw it together, but hold nothing for longer.
            if let Some(next) = self.peek() {
                held += self.pause(next);
                if held < SHORTEST {
                    continue;
                }
            }
            held = Duration::ZERO;
            let draw = self.view.draw();
            if !draw.is_empty() {
                return Ok(Some(Step { delay, at: self.last, draw }));
            }
        }
        if std::mem::replace(&mut self.finished, true) {
            return Ok(None);
        }
        let draw = self.view.draw() + &self.end();
        Ok(Some(Step { delay, at: self.last, draw }))
    }

    fn take(&mut self) -> Result<Option<Played>, ReplayError> {
        match self.ahead.pop_front() {
            Some(played) => played.map(Some),
            None => self.replay.next().transpose(),
        }
    }

    fn peek(&mut self) -> Option<Duration> {
        if self.ahead.is_empty() {
            self.ahead.extend(self.replay.next());
        }
        self.ahead.front()?.as_ref().ok().map(|played| played.at)
    }

    fn pause(&self, at: Duration) -> Duration {
        if at < self.from { Duration::ZERO } else { self.schedule.delay(self.last, at) }
    }

    fn pause_before(&mut self, played: &Played) -> Duration {
        let pause = self.pause(played.at);
        self.last = self.last.max(played.at);
        pause
    }

    fn show(&mut self, event: &Event) {
        match &mut self.view {
            View::Screen(screen) => match event {
                Event::Bytes { stream: Stream::Output | Stream::Error, bytes } => screen.feed(&String::from_utf8_lossy(bytes)),
                Event::Resize { cols, rows } => screen.resize(*cols, *rows),
                Event::Bytes { stream: Stream::Input, .. }
                | Event::Withheld { .. }
                | Event::Eof { .. }
                | Event::Signal { .. }
                | Event::Environment { .. }
                | Event::Marker { .. }
                | Event::Exit(_) => {}
            },
            View::Text { pending, at_line_start } => {
                if let Event::Bytes { stream: Stream::Output | Stream::Error, bytes } = event {
                    pending.push_str(&visible(&String::from_utf8_lossy(bytes)));
                    *at_line_start = pending.ends_with('\n');
                } else if let Some(note) = note(event, &self.replay.totals().outcome) {
                    pending.push_str(if *at_line_start { "" } else { "\n" });
                    pending.push_str(&format!("-- {}\n", visible(&note)));
                    *at_line_start = true;
                }
            }
        }
    }

    /// What stands below the last picture.
    fn end(&self) -> String {
        let totals = self.replay.totals();
        let cut = totals.cut.as_ref().map(|cut| format!(" (cut at byte {}: {})", cut.offset, cut.why)).unwrap_or_default();
        let (leave, from) = match &self.view {
            View::Screen(screen) => (screen.leave(), ""),
            View::Text { at_line_start, .. } => (String::new(), if *at_line_start { "" } else { "\n" }),
        };
        format!("{leave}{from}-- {}\n", visible(&format!("{}{cut}", totals.outcome)))
    }
}

impl View {
    fn draw(&mut self) -> String {
        match self {
            View::Screen(screen) => screen.render_diff(),
            View::Text { pending, .. } => std::mem::take(pending),
        }
    }
}

/// What a replay as text says of an event that is no output.
fn note(event: &Event, outcome: &str) -> Option<String> {
    Some(match event {
        Event::Bytes { .. } | Event::Eof { .. } | Event::Resize { .. } => return None,
        Event::Withheld { stream, length, sha256: Some(sha256) } => format!("{stream}: {length} bytes not kept, SHA-256 {sha256}"),
        Event::Withheld { stream, length, sha256: None } => format!("{stream}: {length} bytes not kept"),
        Event::Signal { name } => format!("signal {name} from the client"),
        Event::Environment { name, value } => format!("{name}={value}"),
        Event::Marker { text } => text.clone(),
        // Where that was the end, the end says it.
        Event::Exit(exit) => Some(Outcome::Exited(exit.clone()).to_string()).filter(|exited| exited != outcome)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_cut_and_then_shortened() {
        let schedule = Schedule::new(2.0, Some(Duration::from_secs(2))).unwrap();
        let at = Duration::from_secs;
        assert_eq!(schedule.delay(at(0), at(1)), Duration::from_millis(500));
        assert_eq!(schedule.delay(at(0), at(3600 * 24 * 3650)), at(1));
        assert_eq!(schedule.delay(at(5), at(4)), Duration::ZERO);
        assert_eq!(Schedule::default().delay(at(1), at(4)), at(3));
    }

    #[test]
    fn a_speed_that_is_none_is_refused() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(Schedule::new(speed, None).is_err(), "{speed}");
        }
    }
}
