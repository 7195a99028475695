//! Writing `MessagePack`, as much of it as Datadog's traces need.

/// Bytes that grow.
#[derive(Debug, Default)]
pub(super) struct Pack(pub(super) Vec<u8>);

impl Pack {
    /// A list follows, of so many items.
    pub(super) fn list(&mut self, count: usize) {
        self.head(count, (0x90, 15), [None, Some(0xdc), Some(0xdd)]);
    }

    /// A map follows, of so many keys and values.
    pub(super) fn map(&mut self, count: usize) {
        self.head(count, (0x80, 15), [None, Some(0xde), Some(0xdf)]);
    }

    pub(super) fn text(&mut self, text: &str) {
        let heads = [Some(0xd9), Some(0xda), Some(0xdb)];
        self.head(text.len(), (0xa0, 31), heads);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn unsigned(&mut self, number: u64) {
        self.0.push(0xcf);
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.0.push(0xd3);
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn float(&mut self, number: f64) {
        self.0.push(0xcb);
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// What says how long something is: in one byte up to `most`, else in one, two or four bytes after
    /// the byte that says which.
    fn head(&mut self, count: usize, (base, most): (u8, u8), wider: [Option<u8>; 3]) {
        let [one, two, four] = wider;
        if let Ok(count) = u8::try_from(count) {
            if count <= most {
                return self.0.push(base | count);
            }
            if let Some(code) = one {
                return self.0.extend([code, count]);
            }
        }
        if let (Ok(count), Some(code)) = (u16::try_from(count), two) {
            self.0.push(code);
            return self.0.extend(count.to_be_bytes());
        }
        // No batch comes near the most that four bytes can say.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.extend(four);
        self.0.extend(count.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(write: impl FnOnce(&mut Pack)) -> Vec<u8> {
        let mut pack = Pack::default();
        write(&mut pack);
        pack.0
    }

    #[test]
    fn lengths_take_the_bytes_that_the_specification_gives_them() {
        let head = |length: usize| {
            let text = "x".repeat(length);
            let mut bytes = packed(|pack| pack.text(&text));
            bytes.truncate(bytes.len() - length);
            bytes
        };
        assert_eq!(head(0), [0xa0]);
        assert_eq!(head(31), [0xbf]);
        assert_eq!(head(32), [0xd9, 32]);
        assert_eq!(head(255), [0xd9, 255]);
        assert_eq!(head(256), [0xda, 1, 0]);
        assert_eq!(head(65_536), [0xdb, 0, 1, 0, 0]);
        assert_eq!(packed(|pack| pack.list(15)), [0x9f]);
        assert_eq!(packed(|pack| pack.list(16)), [0xdc, 0, 16]);
        assert_eq!(packed(|pack| pack.list(65_536)), [0xdd, 0, 1, 0, 0]);
        assert_eq!(packed(|pack| pack.map(0)), [0x80]);
        assert_eq!(packed(|pack| pack.map(300)), [0xde, 1, 44]);
    }

    #[test]
    fn numbers_keep_every_bit() {
        let bytes = packed(|pack| pack.unsigned(u64::MAX));
        assert_eq!(bytes, [0xcf, 255, 255, 255, 255, 255, 255, 255, 255]);
        let bytes = packed(|pack| pack.signed(-2));
        assert_eq!(bytes, [0xd3, 255, 255, 255, 255, 255, 255, 255, 254]);
        let bytes = packed(|pack| pack.float(1.5));
        assert_eq!(bytes, [0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
    }
}
