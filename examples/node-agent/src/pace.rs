//! When to act: pure decisions. Time is handed in.
//!
//! * A change of a node is acted upon at once; what arrives meanwhile is the next batch. Nobody waits for a burst's end,
//!   and a burst costs as many updates as fit into its duration.
//! * What others did to the kernel is repaired by comparing everything. Such events come in showers (a device that goes down
//!   takes every route with it), so the first waits until there has been quiet for 5 ms, and 20 ms at most.
//! * Comparisons that kernel events ask for may take a fifth of the time, beyond a second of it in a row: a program that undoes
//!   what we do costs no more, and in a small cluster it is undone all the same, dozens of times a second.
//! * What failed is tried again by comparing everything, after 0.1 s, then twice as long each time, up to 30 s, each
//!   time shortened by up to a half at random.

use std::time::Duration;

use tokio::time::Instant;

/// How long it must have been quiet before events of the kernel are acted upon.
const QUIET: Duration = Duration::from_millis(5);
/// How long the first of them waits at most.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long comparisons that kernel events ask for may take in a row, in seconds.
const RATION: f64 = 1.0;
/// How much of the time they may take in the long run.
const SHARE: f64 = 0.2;
/// What one of them is thought to take at least, in seconds: there is more to it than the comparison.
const LEAST: f64 = 0.002;
/// Most seconds that one comparison counts for beyond the ration, however long it took (the process may have been stopped):
/// the next one is put off by two seconds at most.
const DEBT: f64 = 0.4;
/// The first pause before a retry.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Changes of nodes wait for a comparison of everything that is this close: it covers them.
const CLOSE: Duration = Duration::from_millis(20);

/// What has to be done, and when.
#[derive(Debug, Clone)]
pub struct Pace {
    sweep: Duration,
    /// Whether anything may be done yet.
    open: bool,
    /// A comparison is wanted now.
    wanted: bool,
    /// Kernel events that have not been acted upon: when the first and the last came.
    shower: Option<(Instant, Instant)>,
    /// Seconds that comparisons may take before they have to wait; less than none where the last one took longer.
    ration: f64,
    /// When a comparison began that kernel events had asked for.
    asked_at: Option<Instant>,
    rationed_at: Option<Instant>,
    retry_at: Option<Instant>,
    retries: u32,
    last_full: Option<Instant>,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Compare everything. Changes of nodes that have not been acted upon are covered by that.
    Full,
    /// Act upon the changes of nodes.
    Update,
    /// Nothing, until this time if there is one, unless something happens.
    Wait(Option<Instant>),
}

impl Pace {
    /// Nothing may be done before [`Pace::open`].
    pub fn new(sweep: Duration) -> Self {
        Self {
            sweep,
            open: false,
            wanted: true,
            shower: None,
            ration: RATION,
            asked_at: None,
            rationed_at: None,
            retry_at: None,
            retries: 0,
            last_full: None,
        }
    }

    /// The nodes are known: from here on the kernel may be changed, beginning with a comparison of everything.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// Whether the kernel may be changed.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Everything has to be compared as soon as possible: the configuration is another.
    pub fn want_full(&mut self) {
        self.wanted = true;
    }

    /// Somebody changed what is ours in the kernel.
    pub fn disturbed(&mut self, now: Instant) {
        let first = self.shower.map_or(now, |(first, _)| first);
        self.shower = Some((first, now));
    }

    /// When the first kernel event came that has not been acted upon.
    pub fn disturbed_since(&self) -> Option<Instant> {
        self.shower.map(|(first, _)| first)
    }

    /// What to do, given whether there are changes of nodes.
    pub fn step(&self, now: Instant, changes: bool) -> Step {
        if !self.open {
            return Step::Wait(None);
        }
        let full = self.full_at(now);
        match full {
            Some(at) if at <= now => Step::Full,
            Some(at) if changes && at > now + CLOSE => Step::Update,
            None if changes => Step::Update,
            at => Step::Wait(at),
        }
    }

    /// A comparison of everything begins: it covers what has happened so far.
    pub fn begin_full(&mut self, now: Instant) {
        self.asked_at = self.shower.take().map(|_| now);
        self.wanted = false;
        self.retry_at = None;
    }

    /// A comparison of everything has ended; `luck` between 0 and 1 shortens the pause before a retry.
    pub fn end_full(&mut self, now: Instant, failed: bool, luck: f64) {
        self.last_full = Some(now);
        if let Some(began) = self.asked_at.take() {
            let took = now.saturating_duration_since(began).as_secs_f64();
            self.ration = (self.ration_at(now) - took.max(LEAST)).max(-DEBT);
            self.rationed_at = Some(now);
        }
        if failed {
            self.schedule_retry(now, luck);
        } else {
            self.retries = 0;
        }
    }

    /// Changes of nodes have been acted upon.
    pub fn end_update(&mut self, now: Instant, failed: bool, luck: f64) {
        if failed && self.retry_at.is_none() {
            self.schedule_retry(now, luck);
        }
    }

    fn schedule_retry(&mut self, now: Instant, luck: f64) {
        let doubled =
            FIRST_RETRY.saturating_mul(1_u32.checked_shl(self.retries).unwrap_or(u32::MAX));
        let pause = doubled
            .min(LAST_RETRY)
            .mul_f64(1.0 - luck.clamp(0.0, 1.0) / 2.0);
        self.retries = self.retries.saturating_add(1).min(16);
        self.retry_at = Some(now + pause);
    }

    /// When everything is to be compared next.
    fn full_at(&self, now: Instant) -> Option<Instant> {
        if self.wanted {
            return Some(now);
        }
        let shower = self.shower.map(|(first, last)| {
            (last + QUIET)
                .min(first + PATIENCE)
                .max(self.admitted_at(now))
        });
        let sweep = self.last_full.map(|last| last + self.sweep);
        [shower, self.retry_at, sweep].into_iter().flatten().min()
    }

    fn ration_at(&self, now: Instant) -> f64 {
        let since = self
            .rationed_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.ration + since.as_secs_f64() * SHARE).min(RATION)
    }

    /// When the ration allows the next comparison.
    fn admitted_at(&self, now: Instant) -> Instant {
        let missing = (-self.ration_at(now)).max(0.0);
        now + Duration::from_secs_f64(missing / SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SWEEP: Duration = Duration::from_secs(60);

    /// An open pace whose first comparison ended at the returned time.
    fn settled() -> (Pace, Instant) {
        let now = Instant::now();
        let mut pace = Pace::new(SWEEP);
        pace.open();
        assert_eq!(pace.step(now, false), Step::Full);
        pace.begin_full(now);
        pace.end_full(now, false, 0.0);
        (pace, now)
    }

    #[test]
    fn nothing_is_done_before_the_nodes_are_known() {
        let now = Instant::now();
        let mut pace = Pace::new(SWEEP);
        pace.disturbed(now);
        assert_eq!(pace.step(now + SWEEP, true), Step::Wait(None));
        pace.open();
        assert_eq!(pace.step(now + SWEEP, true), Step::Full);
    }

    #[test]
    fn a_change_is_acted_upon_at_once_however_short_the_time_since_the_last() {
        let (mut pace, now) = settled();
        assert_eq!(pace.step(now, true), Step::Update);
        pace.end_update(now, false, 0.0);
        assert_eq!(pace.step(now, true), Step::Update);
    }

    #[test]
    fn an_idle_agent_waits_for_the_sweep_and_for_nothing_sooner() {
        let (pace, now) = settled();
        assert_eq!(pace.step(now, false), Step::Wait(Some(now + SWEEP)));
        assert_eq!(pace.step(now + SWEEP, false), Step::Full);
    }

    #[test]
    fn a_shower_of_events_is_one_comparison_after_quiet_or_patience() {
        let (mut pace, now) = settled();
        pace.disturbed(now);
        assert_eq!(pace.step(now, false), Step::Wait(Some(now + QUIET)));
        pace.disturbed(now + 4 * MS);
        assert_eq!(
            pace.step(now + 5 * MS, false),
            Step::Wait(Some(now + 9 * MS))
        );
        for at in (4..19).step_by(3) {
            pace.disturbed(now + at * MS);
        }
        assert_eq!(
            pace.step(now + 19 * MS, false),
            Step::Wait(Some(now + PATIENCE))
        );
        assert_eq!(pace.step(now + PATIENCE, false), Step::Full);
        pace.begin_full(now + PATIENCE);
        pace.end_full(now + PATIENCE, false, 0.0);
        assert_eq!(
            pace.step(now + PATIENCE, false),
            Step::Wait(Some(now + PATIENCE + SWEEP))
        );
    }

    #[test]
    fn a_change_waits_for_a_comparison_that_is_close_and_not_for_a_rationed_one() {
        let (mut pace, now) = settled();
        pace.disturbed(now);
        assert_eq!(pace.step(now, true), Step::Wait(Some(now + QUIET)));
        pace.ration = -0.1;
        pace.rationed_at = Some(now);
        assert_eq!(pace.step(now, true), Step::Update);
    }

    #[test]
    fn a_program_that_undoes_what_we_do_costs_a_fifth_of_the_time() {
        // In a large cluster and in a small one: how long a comparison takes, how many there are in a minute, how long the
        // longest pause is.
        for (takes, count, pause) in [(100, 125..=131, 500), (4, 2_300..=3_300, 40)] {
            let (mut pace, start) = settled();
            let (mut now, mut comparisons) = (start, 0);
            while now < start + 60 * 1000 * MS {
                pace.disturbed(now);
                match pace.step(now, false) {
                    Step::Full => {
                        comparisons += 1;
                        pace.begin_full(now);
                        now += takes * MS;
                        pace.end_full(now, false, 0.0);
                    }
                    Step::Wait(Some(at)) => assert!(at <= now + pause * MS, "{:?}", at - now),
                    other => panic!("{other:?}"),
                }
                now += MS;
            }
            assert!(count.contains(&comparisons), "{comparisons}");
        }
    }

    #[test]
    fn a_comparison_that_took_long_puts_the_next_one_off_by_two_seconds_at_most() {
        let (mut pace, now) = settled();
        pace.disturbed(now);
        pace.begin_full(now);
        let end = now + 11_000 * MS;
        pace.end_full(end, false, 0.0);
        pace.disturbed(end);
        assert_eq!(pace.step(end, false), Step::Wait(Some(end + 2_000 * MS)));
    }

    #[test]
    fn retries_wait_ever_longer_and_begin_anew_after_a_success() {
        let (mut pace, now) = settled();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pace.begin_full(now);
            pace.end_full(now, true, 0.0);
            let Step::Wait(Some(at)) = pace.step(now, false) else {
                panic!("a retry is waited for");
            };
            pauses.push((at - now).as_millis());
        }
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 30_000);
        pace.begin_full(now);
        pace.end_full(now, false, 0.0);
        pace.end_update(now, true, 1.0);
        assert_eq!(pace.step(now, false), Step::Wait(Some(now + 50 * MS)));
        // More failures do not put it off.
        pace.end_update(now + 10 * MS, true, 0.0);
        assert_eq!(
            pace.step(now + 10 * MS, false),
            Step::Wait(Some(now + 50 * MS))
        );
    }
}
