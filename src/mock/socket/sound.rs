//! Audio in sockets: 16-bit samples, 24,000 a second. What is heard has ten tokens a second, what is
//! said twenty, as OpenAI counts them; one rule for all, so that every figure can be worked out by
//! hand.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Bytes of what is heard that are a token.
const HEARD: usize = 4_800;

/// Bytes of audio that say one byte of text: four of these are a token of either.
const SAID: usize = 600;

/// Audio that a client sends, and when it has said something.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// Bytes that are not part of the conversation yet.
    buffered: usize,
    /// Some of them were not silent.
    speech: bool,
}

impl Ear {
    /// Takes in base64, of either alphabet. Whether speech has ended: silence follows it.
    pub(super) fn hear(&mut self, audio: &str) -> bool {
        let standard = audio.replace('-', "+").replace('_', "/");
        let Ok(bytes) = STANDARD.decode(standard) else {
            return false;
        };
        self.buffered += bytes.len();
        let silent = bytes.iter().all(|byte| *byte == 0);
        let ended = silent && self.speech;
        self.speech |= !silent;
        ended
    }

    /// What was taken in becomes part of the conversation: its tokens; 0 if it was nothing.
    pub(super) fn commit(&mut self) -> u64 {
        let heard = std::mem::take(self).buffered;
        u64::try_from(heard.div_ceil(HEARD)).unwrap_or(u64::MAX)
    }
}

/// The tokens of audio in base64 that is a whole message.
pub(super) fn tokens_of(audio: &str) -> u64 {
    let mut ear = Ear::default();
    ear.hear(audio);
    ear.commit()
}

/// A text read aloud, in base64.
pub(super) fn speak(text: &str) -> String {
    let samples: Vec<u8> = text
        .bytes()
        .flat_map(|byte| std::iter::repeat_n(byte, SAID))
        .collect();
    STANDARD.encode(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_ends_with_the_silence_that_follows_it() {
        let (speech, silence) = (STANDARD.encode([1; 4_800]), STANDARD.encode([0; 10]));
        let mut ear = Ear::default();
        assert!(!ear.hear(&silence));
        assert!(!ear.hear(&speech));
        assert!(ear.hear(&silence));
        assert_eq!((ear.commit(), ear.commit()), (2, 0));
        assert_eq!(tokens_of(&speech), 1);
        assert!(!ear.hear("no base64"));
        assert_eq!((tokens_of("-_8="), tokens_of("+/8=")), (1, 1));
    }

    #[test]
    fn a_token_of_text_is_a_token_of_audio() {
        let bytes = STANDARD.decode(speak("otto")).unwrap();
        assert_eq!((bytes.len(), bytes[0], bytes[2_399]), (2_400, b'o', b'o'));
    }
}
