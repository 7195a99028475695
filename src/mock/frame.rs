//! Frames of AWS event streams.

use bytes::Bytes;

/// A frame: its lengths and their checksum, the headers, the data, the checksum of all that.
pub(super) fn frame(name: &str, is_exception: bool, data: &str) -> Bytes {
    let (kind, message) = if is_exception {
        (":exception-type", "exception")
    } else {
        (":event-type", "event")
    };
    let mut headers = Vec::new();
    let pairs = [
        (kind, name),
        (":content-type", "application/json"),
        (":message-type", message),
    ];
    for (header, value) in pairs {
        headers.push(u8::try_from(header.len()).unwrap_or(u8::MAX));
        headers.extend_from_slice(header.as_bytes());
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::new();
    frame.extend(size(16 + headers.len() + data.len()));
    frame.extend(size(headers.len()));
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(data.as_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_aws_describes_it() {
        let frame = frame("chunk", false, "{}");
        let (length, rest) = frame.split_first_chunk().unwrap();
        assert_eq!(
            usize::try_from(u32::from_be_bytes(*length)).unwrap(),
            frame.len()
        );
        assert!(rest.windows(5).any(|part| part == b"chunk"));
        let (all, sum) = frame.split_last_chunk().unwrap();
        assert_eq!(crc32fast::hash(all), u32::from_be_bytes(*sum));
    }
}
