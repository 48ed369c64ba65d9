//! Slows an HTTP/2 connection down that sends more of what costs us and brings nothing than a client
//! has any use for: resets, pings, settings, empty frames.
//!
//! Its bytes are left in the socket meanwhile, so that a flood costs whoever sends it, and nobody
//! else. What is wrong with a frame is for the library to say.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// RFC 9113 §3.4.
const PREFACE: usize = 24;
/// RFC 9113 §4.1.
const FRAME_HEADER: usize = 9;

/// What a second of a connection is worth, and what it can save up.
const RATE: u32 = 100_000;
/// A reset, a ping and the like: a hundred a second, and as many at once.
const IDLE_WORK: u32 = 1000;
/// A request, or a window that is opened: often, while something large is read.
const USUAL: u32 = 1;
/// The longest that is waited at a time: meanwhile it is not noticed that the client has gone.
const LONGEST: Duration = Duration::from_secs(10);

/// Where in the sequence of frames a connection is.
#[derive(Debug)]
struct Frames {
    /// Of the preface, or of a payload: bytes that are still to come.
    left: usize,
    header: [u8; FRAME_HEADER],
    have: usize,
}

impl Frames {
    const fn new() -> Self {
        Self { left: PREFACE, header: [0; FRAME_HEADER], have: 0 }
    }

    /// What the frames cost whose headers end in `bytes`.
    fn cost(&mut self, mut bytes: &[u8]) -> u32 {
        let mut cost: u32 = 0;
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = bytes.split_first() else { return cost };
            bytes = rest;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == FRAME_HEADER {
                self.have = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                let length = u32::from_be_bytes([0, high, middle, low]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                cost = cost.saturating_add(cost_of(kind, flags, length));
            }
        }
    }
}

/// RFC 9113 §6.
const fn cost_of(kind: u8, flags: u8, length: u32) -> u32 {
    const END_STREAM: u8 = 1;
    const ACK: u8 = 1;
    match kind {
        // DATA: an end may be empty.
        0 if length == 0 && flags & END_STREAM == 0 => IDLE_WORK,
        0 => 0,
        // HEADERS and WINDOW_UPDATE.
        1 | 8 => USUAL,
        // SETTINGS and PING that answer ours.
        4 | 6 if flags & ACK != 0 => USUAL,
        // PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, CONTINUATION, and unknown ones.
        _ => IDLE_WORK,
    }
}

/// A connection's means, in the units of [`RATE`].
#[derive(Debug)]
struct Budget {
    /// When it would be whole again, were nothing more spent.
    whole_at: Instant,
}

impl Budget {
    /// When the next bytes may be read.
    fn spend(&mut self, cost: u32, now: Instant) -> Instant {
        let second = Duration::from_secs(1);
        let takes = second.saturating_mul(cost) / RATE;
        self.whole_at = self.whole_at.max(now) + takes;
        self.whole_at.checked_sub(second).unwrap_or(now)
    }
}

/// How fast one connection is read.
#[derive(Debug)]
pub struct Pace {
    frames: Frames,
    budget: Budget,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Default for Pace {
    /// Of a connection that has sent nothing so far.
    fn default() -> Self {
        let budget = Budget { whole_at: Instant::now() };
        Self { frames: Frames::new(), budget, pause: None }
    }
}

impl Pace {
    /// Until more may be read.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }

    /// Notes what was read.
    pub fn note(&mut self, bytes: &[u8]) {
        let cost = self.frames.cost(bytes);
        let now = Instant::now();
        let next = self.budget.spend(cost, now).min(now + LONGEST);
        if next > now {
            self.pause = Some(Box::pin(sleep_until(next)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::stream::Watched;
    use super::*;

    const PRI: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn cost(frames: &[Vec<u8>]) -> u32 {
        Frames::new().cost(&[PRI, &frames.concat()].concat())
    }

    #[test]
    fn what_brings_nothing_costs_and_what_is_asked_for_hardly() {
        for (kind, flags, payload, expected) in [
            (0, 0, &b"x"[..], 0),
            (0, 1, b"", 0),
            (0, 0, b"", IDLE_WORK),
            (1, 5, b"xxx", USUAL),
            (2, 0, b"xxxxx", IDLE_WORK),
            (3, 0, b"xxxx", IDLE_WORK),
            (4, 0, b"", IDLE_WORK),
            (4, 1, b"", USUAL),
            (6, 0, b"xxxxxxxx", IDLE_WORK),
            (6, 1, b"xxxxxxxx", USUAL),
            (8, 0, b"xxxx", USUAL),
            (9, 0, b"", IDLE_WORK),
            (200, 0, b"x", IDLE_WORK),
        ] {
            assert_eq!(cost(&[frame(kind, flags, payload)]), expected, "{kind} {flags}");
        }
    }

    #[test]
    fn a_hundred_resets_at_once_are_let_through_and_then_a_hundred_a_second() {
        let began = Instant::now();
        let mut budget = Budget { whole_at: began };
        for _ in 0..100 {
            assert!(budget.spend(IDLE_WORK, began) <= began);
        }
        let next = budget.spend(IDLE_WORK, began);
        assert_eq!(next - began, Duration::from_millis(10));
        // What was not spent is not saved up for ever.
        let later = began + Duration::from_secs(3600);
        for _ in 0..100 {
            assert!(budget.spend(IDLE_WORK, later) <= later);
        }
        assert!(budget.spend(IDLE_WORK, later) > later);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_stays_with_its_sender_and_a_busy_client_is_not_slowed_down() {
        let began = Instant::now();
        let (mut client, server) = tokio::io::duplex(4 * 1024 * 1024);
        let mut paced = Watched::paced(Box::new(server));
        let busy: Vec<u8> = [frame(1, 5, b"request"), frame(0, 0, &[0; 16_384])].concat();
        client.write_all(&[PRI, &busy.repeat(100)].concat()).await.unwrap();
        let mut seen = vec![0; PRI.len() + busy.len() * 100];
        paced.read_exact(&mut seen).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);

        client.write_all(&frame(3, 0, b"xxxx").repeat(1100)).await.unwrap();
        let mut one = [0; 13];
        for _ in 0..1100 {
            paced.read_exact(&mut one).await.unwrap();
        }
        let took = began.elapsed();
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(12), "{took:?}");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_frames_come(
            frames in prop::collection::vec(
                (0_u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            cuts in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let frames: Vec<Vec<u8>> =
                frames.iter().map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let bytes = [PRI, &frames.concat()].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut pieces = Frames::new();
            let sum: u32 = cuts.windows(2).map(|cut| pieces.cost(&bytes[cut[0]..cut[1]])).sum();
            prop_assert_eq!(sum, cost(&frames));
        }
    }
}
