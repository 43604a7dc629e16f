//! `stats -watch`: the figures of a server on the terminal, drawn again each second until `q`.
//!
//! The terminal is given back as it was however this ends: by a key, a signal, an error or a panic. A server that goes
//! away is told in red, and asked again until it is back.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline, Wrap};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::figures::Figures;
use super::link::{Door, Link};

/// Between two looks at the server, and the most that one may take.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a signal may go unnoticed between two looks.
const GLANCE: Duration = Duration::from_millis(100);

/// Looks that are remembered: more than the columns of the widest terminal.
const MOST_LOOKS: usize = 1000;

/// The lines that a message in red may need.
const BANNER_LINES: u16 = 3;

/// Draws until it is told to stop.
pub fn run(door: &Door) -> anyhow::Result<()> {
    ensure!(
        io::stdout().is_terminal(),
        "-watch draws on a terminal, and stdout is none; stats -json is for scripts"
    );
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stopped.clone())?;
    }
    // Before the screen is taken, so that a wrong password is an error in the shell.
    let mut watched = Watched::new(door)?;
    // From here on also a panic gives it back.
    let mut terminal = ratatui::try_init()?;
    let _given_back = GivenBack;
    while !stopped.load(Ordering::Relaxed) {
        watched.look();
        terminal.draw(|frame| watched.draw(frame))?;
        if is_left(&stopped)? {
            break;
        }
    }
    Ok(())
}

/// Gives the terminal back when it goes out of scope.
struct GivenBack;

impl Drop for GivenBack {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Waits until the next look is due, or until a key or a signal ends it all.
fn is_left(stopped: &AtomicBool) -> io::Result<bool> {
    let due = Instant::now() + PERIOD;
    while !stopped.load(Ordering::Relaxed) {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        if !event::poll(left.min(GLANCE))? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let is_ctrl_c =
                    key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
                if is_ctrl_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
    Ok(true)
}

/// A server that is being watched.
struct Watched<'a> {
    door: &'a Door,
    link: Option<Link>,
    figures: Figures,
    at: Instant,
    /// A second each, the latest last.
    reads: VecDeque<u64>,
    writes: VecDeque<u64>,
    /// Records for each sync since the last look.
    records_per_sync: Option<f64>,
    /// Why the last look failed.
    lost: Option<String>,
}

impl Watched<'_> {
    fn new(door: &Door) -> anyhow::Result<Watched<'_>> {
        let mut link = Link::open(door)?;
        let figures = Figures::ask(&mut link)?;
        Ok(Watched {
            door,
            link: Some(link),
            figures,
            at: Instant::now(),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            records_per_sync: None,
            lost: None,
        })
    }

    /// Asks the server for its figures, by a new connection if the last one is lost.
    fn look(&mut self) {
        match self.ask() {
            Ok(figures) => self.follow(figures),
            Err(error) => {
                self.link = None;
                self.lost = Some(format!("{error:#}"));
            }
        }
    }

    fn ask(&mut self) -> anyhow::Result<Figures> {
        // Nobody looks at keys and signals meanwhile, so -timeout is not for this.
        let mut link = match self.link.take() {
            Some(mut link) => {
                link.allow(PERIOD);
                link
            }
            None => Link::open_within(self.door, PERIOD)?,
        };
        let figures = Figures::ask(&mut link)?;
        self.link = Some(link);
        Ok(figures)
    }

    fn follow(&mut self, figures: Figures) {
        let before = std::mem::replace(&mut self.figures, figures);
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        (self.at, self.lost) = (Instant::now(), None);
        let now = &self.figures;
        // A server that was started anew begins at zero.
        let grown = |field| now.number(field).saturating_sub(before.number(field));
        let a_second = |grown: u64| (grown as f64 / seconds).round() as u64;
        let (records, syncs) = (grown("wal_records"), grown("wal_syncs"));
        let reads = a_second(now.reads().saturating_sub(before.reads()));
        self.records_per_sync = (syncs > 0).then(|| records as f64 / syncs as f64);
        for (list, count) in [(&mut self.reads, reads), (&mut self.writes, a_second(records))] {
            list.push_back(count);
            if list.len() > MOST_LOOKS {
                list.pop_front();
            }
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let banner = self.banner();
        let rows = self.rows();
        let [head, red, reads, writes, table, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(if banner.is_some() { BANNER_LINES } else { 0 }),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(rows.len() as u16 + 2),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let title = format!("post-gres-rs at {}", self.door.address());
        frame.render_widget(Line::from(title).style(Modifier::BOLD), head);
        if let Some(text) = banner {
            let style = Style::new().fg(Color::White).bg(Color::Red);
            frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).style(style), red);
        }
        draw_line(frame, reads, "keys read", &self.reads, Color::Green);
        draw_line(frame, writes, "records written", &self.writes, Color::Yellow);
        frame.render_widget(Paragraph::new(rows).block(Block::bordered()), table);
        frame.render_widget(Line::from("q leaves").style(Modifier::DIM), foot);
    }

    /// What is wrong.
    fn banner(&self) -> Option<String> {
        match &self.lost {
            Some(why) => Some(format!("{why}. Asking again each second")),
            None => self.figures.unwell(),
        }
    }

    fn rows(&self) -> Vec<Line<'static>> {
        let mut rows = self.figures.rows(&self.door.address());
        if let Some(records) = self.records_per_sync {
            rows.push((
                "batches",
                format!("{records:.1} records for each sync in the last second"),
            ));
        }
        let row = |(name, text): (&'static str, String)| {
            let name = Span::styled(format!("{name:9} "), Modifier::BOLD);
            Line::from(vec![name, Span::raw(text)])
        };
        rows.into_iter().map(row).collect()
    }
}

/// A chart of a figure, second by second, the latest at the right.
fn draw_line(frame: &mut Frame<'_>, area: Rect, what: &str, list: &VecDeque<u64>, color: Color) {
    let (latest, most) = (list.back().unwrap_or(&0), list.iter().max().unwrap_or(&0));
    let title = format!(" {what} a second: {latest}, at most {most} ");
    let columns = usize::from(area.width.saturating_sub(2));
    let shown: Vec<u64> = list.iter().skip(list.len().saturating_sub(columns)).copied().collect();
    let chart = Sparkline::default().data(shown).style(color);
    frame.render_widget(chart.block(Block::bordered().title(title)), area);
}
