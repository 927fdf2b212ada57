//! Which bytes of an attempt's log are kept, and how to read and extend them; pure.
//!
//! A log only grows, so what stands at an offset is the same whoever reads it. Chunks of it may therefore overlap (two
//! dispatchers in a race, a chunk that was written again with more in it) and still read as one log: reading takes every
//! byte from some chunk that has it.

use std::ops::Range;

/// A chunk of a log: the bytes from `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of its first byte in the log.
    pub start: u64,
    /// Offset after its last byte; `start` if it has none.
    pub end: u64,
}

impl Span {
    /// How many bytes it has.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// Says that nothing comes after a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seal {
    /// The attempt had ended and its log was read to the end.
    Complete,
    /// The log went with its cluster: what came after is not known.
    Lost,
}

/// A chunk as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptChunk {
    /// Its bytes.
    pub span: Span,
    /// Whether it is the last.
    pub seal: Option<Seal>,
}

/// How much of one attempt's log is kept: a head for ever, and behind it as much of the newest as fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepBounds {
    /// Bytes kept in all.
    pub total: u64,
    /// Bytes from the beginning that are never given up for newer ones.
    pub head: u64,
}

/// A part of a log as it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The bytes from `from` up to `to`, out of this chunk.
    Kept {
        /// Which chunk has them.
        chunk: KeptChunk,
        /// Offset in the log.
        from: u64,
        /// Offset in the log.
        to: u64,
    },
    /// Bytes that are not kept.
    Missing {
        /// Offset in the log.
        from: u64,
        /// Offset in the log.
        to: u64,
    },
}

/// Everything kept of one attempt's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptLog {
    chunks: Vec<KeptChunk>,
}

impl KeptLog {
    /// Out of chunks in any order, the same more than once or not.
    pub fn new(mut chunks: Vec<KeptChunk>) -> Self {
        chunks.sort_unstable();
        chunks.dedup();
        Self { chunks }
    }

    /// Its chunks, by offset.
    pub fn chunks(&self) -> &[KeptChunk] {
        &self.chunks
    }

    /// Whether there is nothing, not even that the log was empty.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The offset after its last byte.
    pub fn end(&self) -> u64 {
        self.chunks.iter().map(|c| c.span.end).max().unwrap_or(0)
    }

    /// Whether it is finished, and how. A log that was thought lost and was read to its end after all is complete.
    pub fn seal(&self) -> Option<Seal> {
        self.chunks.iter().filter_map(|c| c.seal).min()
    }

    /// How to read `range`, as far as the log goes: parts in order, without gap or overlap.
    pub fn read(&self, range: Range<u64>) -> Vec<Part> {
        let (mut at, to) = (range.start, range.end.min(self.end()));
        let mut parts = Vec::new();
        while at < to {
            let here = self.chunks.iter().filter(|c| c.span.start <= at && at < c.span.end);
            let part = if let Some(&chunk) = here.max_by_key(|c| c.span.end) {
                Part::Kept { chunk, from: at, to: chunk.span.end.min(to) }
            } else {
                let next = self.chunks.iter().map(|c| c.span).filter(|s| s.start > at && !s.is_empty());
                Part::Missing { from: at, to: next.map(|s| s.start).min().unwrap_or(to).min(to) }
            };
            at = match part {
                Part::Kept { to, .. } | Part::Missing { to, .. } => to,
            };
            parts.push(part);
        }
        parts
    }

    /// Where to go on: at the end, or at the beginning of the last chunk if that is shorter than `grow_below`. It is
    /// then written again with more in it, so that a slow log doesn't come to thousands of tiny chunks.
    pub fn resume_at(&self, grow_below: u64) -> u64 {
        let end = self.end();
        let last = self.chunks.iter().filter(|c| c.span.end == end).map(|c| c.span).max_by_key(|s| s.len());
        last.filter(|s| s.len() < grow_below).map_or(end, |s| s.start)
    }

    /// Notes a chunk that has been written. Returns the chunks that may be deleted now: each has all its bytes in it.
    pub fn add(&mut self, chunk: KeptChunk) -> Vec<KeptChunk> {
        let replaced = |c: &KeptChunk| *c != chunk && chunk.span.covers(c.span) && c.seal <= chunk.seal;
        let gone: Vec<KeptChunk> = self.chunks.extract_if(.., |c| replaced(c)).collect();
        if let Err(place) = self.chunks.binary_search(&chunk) {
            self.chunks.insert(place, chunk);
        }
        gone
    }

    /// Takes out the oldest chunks behind the head for as long as there is more than the bounds allow, and returns them.
    pub fn shed(&mut self, bounds: KeepBounds) -> Vec<KeptChunk> {
        let mut total: u64 = self.chunks.iter().map(|c| c.span.len()).sum();
        let end = self.end();
        self.chunks
            .extract_if(.., |c| {
                let old = c.span.start >= bounds.head && c.span.end < end && c.seal.is_none();
                let shed = old && total > bounds.total;
                if shed {
                    total -= c.span.len();
                }
                shed
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn chunk(start: u64, end: u64) -> KeptChunk {
        KeptChunk { span: Span { start, end }, seal: None }
    }

    fn sealed(start: u64, end: u64, seal: Seal) -> KeptChunk {
        KeptChunk { span: Span { start, end }, seal: Some(seal) }
    }

    #[test]
    fn chunks_that_overlap_read_as_one_log() {
        let log = KeptLog::new(vec![chunk(100, 150), chunk(0, 100), chunk(100, 180), chunk(170, 200)]);
        assert_eq!(
            log.read(50..1_000),
            [
                Part::Kept { chunk: chunk(0, 100), from: 50, to: 100 },
                Part::Kept { chunk: chunk(100, 180), from: 100, to: 180 },
                Part::Kept { chunk: chunk(170, 200), from: 180, to: 200 },
            ]
        );
        assert_eq!(log.read(200..300), []);
    }

    #[test]
    fn what_is_missing_is_said() {
        let log = KeptLog::new(vec![chunk(0, 10), chunk(30, 40)]);
        let missing = Part::Missing { from: 10, to: 30 };
        assert_eq!(log.read(10..35), [missing, Part::Kept { chunk: chunk(30, 40), from: 30, to: 35 }]);
        assert_eq!(log.read(10..20), [Part::Missing { from: 10, to: 20 }]);
    }

    #[test]
    fn a_short_last_chunk_grows_and_replaces_what_it_has_in_it() {
        let mut log = KeptLog::new(vec![chunk(0, 100), chunk(100, 110)]);
        assert_eq!(log.resume_at(50), 100);
        assert_eq!(log.resume_at(10), 110);
        assert_eq!(log.add(chunk(100, 130)), [chunk(100, 110)]);
        assert_eq!(log.add(chunk(100, 130)), []);
        assert_eq!(log.add(sealed(130, 130, Seal::Lost)), []);
        assert_eq!(log.seal(), Some(Seal::Lost));
        assert_eq!(log.add(sealed(130, 140, Seal::Complete)), []);
        assert_eq!(log.seal(), Some(Seal::Complete));
        assert_eq!((log.end(), log.chunks().len()), (140, 4));
    }

    #[test]
    fn a_seal_is_never_replaced_by_a_chunk_without_one() {
        let mut log = KeptLog::new(vec![sealed(5, 5, Seal::Lost)]);
        assert_eq!(log.add(chunk(0, 9)), []);
        assert_eq!(log.seal(), Some(Seal::Lost));
    }

    #[test]
    fn head_and_newest_are_kept() {
        let mut log = KeptLog::new((0..10).map(|i| chunk(i * 10, i * 10 + 10)).collect());
        let gone = log.shed(KeepBounds { total: 50, head: 20 });
        assert_eq!(gone, [2, 3, 4, 5, 6].map(|i| chunk(i * 10, i * 10 + 10)));
        assert_eq!(log.read(0..100).len(), 6);
        assert_eq!(log.shed(KeepBounds { total: 50, head: 20 }), []);
    }

    proptest! {
        /// Whatever chunks there are: parts follow each other without gap or overlap, each byte comes from a chunk that
        /// has it, and 'missing' is said of exactly the bytes that no chunk has.
        #[test]
        fn reading_is_one_stream(
            spans in vec((0_u64..60, 0_u64..30), 0..12),
            from in 0_u64..80,
            len in 0_u64..80,
        ) {
            let log = KeptLog::new(spans.iter().map(|(s, n)| chunk(*s, s + n)).collect());
            let has = |byte: u64| log.chunks().iter().any(|c| c.span.start <= byte && byte < c.span.end);
            let mut at = from;
            for part in log.read(from..from + len) {
                let (start, to) = match part {
                    Part::Kept { chunk, from, to } => {
                        prop_assert!(log.chunks().contains(&chunk));
                        prop_assert!(chunk.span.start <= from && to <= chunk.span.end);
                        (from, to)
                    }
                    Part::Missing { from, to } => {
                        prop_assert!((from..to).all(|byte| !has(byte)));
                        (from, to)
                    }
                };
                prop_assert!(start == at && to > at);
                at = to;
            }
            prop_assert_eq!(at, from.max((from + len).min(log.end())));
        }

        /// Writing and deleting as told loses no byte and brings none, in whatever order chunks come.
        #[test]
        fn growing_loses_nothing(spans in vec((0_u64..60, 0_u64..30), 0..12)) {
            let mut log = KeptLog::default();
            let mut bytes = std::collections::BTreeSet::new();
            for (start, n) in spans {
                let gone = log.add(chunk(start, start + n));
                prop_assert!(gone.iter().all(|c| !log.chunks().contains(c)));
                bytes.extend(start..start + n);
                let kept: std::collections::BTreeSet<u64> =
                    log.chunks().iter().flat_map(|c| c.span.start..c.span.end).collect();
                prop_assert_eq!(&kept, &bytes);
            }
        }

        /// The bounds are kept (but for the chunk across the head's end, and the last one), and head and end stay.
        #[test]
        fn shedding_keeps_head_and_end(n in 1_u64..40, total in 20_u64..200) {
            let mut log = KeptLog::new((0..n).map(|i| chunk(i * 10, i * 10 + 10)).collect());
            log.shed(KeepBounds { total, head: total / 2 });
            let kept: u64 = log.chunks().iter().map(|c| c.span.len()).sum();
            prop_assert!(kept <= total.max((total / 2).next_multiple_of(10) + 10));
            prop_assert_eq!(log.end(), n * 10);
            prop_assert!((0..n).filter(|i| i * 10 < total / 2).all(|i| log.chunks().contains(&chunk(i * 10, i * 10 + 10))));
        }
    }
}
