//! A zip archive that Ray unpacks as it is, wherever it comes from.
//!
//! Of an archive that is alone in its top folder Ray strips that folder if it fetched the archive by URL, but not if it
//! was uploaded to its head (`remove_top_level_directory` in `ray/_private/runtime_env/packaging.py`, 2.60). A job must
//! find the same files either way, so archives that go out by link get an empty file at the top, named first. Only the
//! archive's end is made anew; everything before it is sent as it is stored.

use std::ops::Range;

/// The file at the top.
pub(crate) const NAME: &str = ".switchyard-package";
const NAME_BYTES: u16 = 19;
const _: () = assert!(NAME.len() == NAME_BYTES as usize);
/// What the file takes before the directory, and its entry in that.
const FILE_BYTES: u32 = 30 + NAME_BYTES as u32;
const ENTRY_BYTES: u32 = 46 + NAME_BYTES as u32;
/// Largest number that a field of 32 bits holds, with the file put in.
const LAST: u32 = u32::MAX - 1 - FILE_BYTES - ENTRY_BYTES;
/// Most bytes in which the end of a zip archive can be found: its record and the longest comment.
pub(crate) const END_MAX: u64 = 22 + 0xffff;

const END: [u8; 4] = *b"PK\x05\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const FILE: [u8; 4] = *b"PK\x03\x04";

/// Where an archive's directory is, and what comes behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// Where its directory begins, and how long that is.
    start: u32,
    size: u32,
    entries: u16,
    comment_bytes: u16,
    comment: Vec<u8>,
}

impl Archive {
    /// Reads the end of an archive of `bytes` bytes; `tail` is the last [`END_MAX`] of them, or all. `None`: it is no zip
    /// archive, or one of more than 65,534 files or 4 GiB.
    pub(crate) fn read(bytes: u64, tail: &[u8]) -> Option<Self> {
        let sound = |at: &usize| {
            let comment = usize::from(u16_at(tail, at + 20)?);
            (tail.get(*at..at + 4)? == END && at + 22 + comment == tail.len()).then_some(())
        };
        let at = (0..=tail.len().checked_sub(22)?).rev().find(|at| sound(at).is_some())?;
        let (entries, size, start) = (u16_at(tail, at + 10)?, u32_at(tail, at + 12)?, u32_at(tail, at + 16)?);
        let end = bytes - tail.len() as u64 + at as u64;
        // Largest numbers say that the real ones are elsewhere (zip64), which this does not read.
        let whole = u16_at(tail, at + 8)? == entries && entries < u16::MAX - 1;
        let fits = end <= u64::from(LAST) && u64::from(start) + u64::from(size) == end;
        let (comment_bytes, comment) = (u16_at(tail, at + 20)?, tail[at + 22..].to_vec());
        (whole && fits).then_some(Self { start, size, entries, comment_bytes, comment })
    }

    /// The directory's place in the archive. What is before it stays.
    pub(crate) fn directory(&self) -> Range<u64> {
        u64::from(self.start)..u64::from(self.start) + u64::from(self.size)
    }

    /// What takes the place of the directory, which is `old`, and of everything behind it.
    pub(crate) fn end(&self, old: &[u8]) -> Vec<u8> {
        // Version 2.0, stored, 1980-01-01, no content: its checksum and sizes are 0.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend([0; 12]);
        common.extend(NAME_BYTES.to_le_bytes());
        let mut out = Vec::with_capacity(old.len() + 256);
        out.extend(FILE);
        out.extend(&common);
        out.extend([0, 0]);
        out.extend(NAME.as_bytes());
        out.extend(ENTRY);
        // Made on Unix, where a plain file's mode is 0644.
        out.extend([20, 3]);
        out.extend(&common);
        out.extend([0; 8]);
        out.extend((0o100_644_u32 << 16).to_le_bytes());
        out.extend(self.start.to_le_bytes());
        out.extend(NAME.as_bytes());
        out.extend(old);
        out.extend(END);
        out.extend([0; 4]);
        let entries = (self.entries + 1).to_le_bytes();
        out.extend(entries);
        out.extend(entries);
        out.extend((self.size + ENTRY_BYTES).to_le_bytes());
        out.extend((self.start + FILE_BYTES).to_le_bytes());
        out.extend(self.comment_bytes.to_le_bytes());
        out.extend(&self.comment);
        out
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use std::io::{Cursor, Read, Write};

    use zip::write::SimpleFileOptions;
    use zip::{ZipArchive, ZipWriter};

    use super::*;

    const TAIL: usize = 22 + 0xffff;

    fn archive(files: &[(&str, &str)], comment: &str) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.set_comment(comment).unwrap();
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn shielded(zip: &[u8]) -> Option<Vec<u8>> {
        let tail = &zip[zip.len() - zip.len().min(TAIL)..];
        let read = Archive::read(zip.len() as u64, tail)?;
        let [from, to] =
            [read.directory().start, read.directory().end].map(|at| usize::try_from(at).unwrap());
        Some([&zip[..from], &read.end(&zip[from..to])].concat())
    }

    #[test]
    fn the_file_comes_first_and_the_rest_stays() {
        let long = "x".repeat(0xffff);
        for comment in ["", "a comment", "PK\x05\x06 in a comment of some length, with no record", &long] {
            let files = [("top/a.py", "print(1)"), ("top/b/c.txt", "")];
            let out = shielded(&archive(&files, comment)).unwrap();
            let mut zip = ZipArchive::new(Cursor::new(out)).unwrap();
            assert_eq!(zip.by_index(0).unwrap().name().unwrap(), NAME);
            assert_eq!((zip.len(), zip.comment()), (3, comment.as_bytes()));
            for (index, (name, content)) in files.iter().enumerate() {
                let mut file = zip.by_index(index + 1).unwrap();
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                assert_eq!((&*file.name().unwrap(), text.as_str()), (*name, *content));
            }
            assert_eq!(zip.by_index(0).unwrap().size(), 0);
        }
    }

    #[test]
    fn what_is_no_such_archive_is_not_touched() {
        let zip = archive(&[("a", "b")], "");
        for wrong in [&b""[..], b"PK", &zip[..zip.len() - 1], &zip[1..], &[0; 100]] {
            assert_eq!(shielded(wrong), None);
        }
        let empty = shielded(&archive(&[], "")).unwrap();
        assert_eq!(ZipArchive::new(Cursor::new(empty)).unwrap().len(), 1);
    }
}
