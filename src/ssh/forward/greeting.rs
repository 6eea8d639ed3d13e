//! An answer in SSH's own words to a client that wants SSH where there is none (PURE).
//!
//! The failure to open a channel carries no text through russh, and the client that runs inside the forward
//! is another than the one that opened it. So it is let through to a peer that greets and leaves at once:
//! SSH_MSG_DISCONNECT before any key exchange, with the reason as its description (RFC 4253 11.1).

use bytes::Bytes;

const VERSION: &[u8] = b"SSH-2.0-countersign\r\n";
const SSH_MSG_DISCONNECT: u8 = 1;
const BY_APPLICATION: u32 = 11;
/// Without a cipher packets are multiples of this (RFC 4253 6).
const BLOCK: usize = 8;
const LEAST_PADDING: usize = 4;

/// The greeting, and the packet that says `text`.
pub fn farewell(text: &str) -> Bytes {
    let text: Vec<u8> = format!("countersign: {text}").into_bytes();
    let mut payload = vec![SSH_MSG_DISCONNECT];
    payload.extend(BY_APPLICATION.to_be_bytes());
    payload.extend(length(text.len()));
    payload.extend(text);
    payload.extend(length(0));
    // The length itself, and that of the padding, count towards the block.
    let padding = BLOCK - (5 + payload.len() + LEAST_PADDING) % BLOCK + LEAST_PADDING;
    let mut packet = VERSION.to_vec();
    packet.extend(length(1 + payload.len() + padding));
    packet.push(u8::try_from(padding).unwrap_or(0));
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet.into()
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_whole_packet() {
        for text in ["", "a", "reach db-1 directly", "a much longer sentence about where to go instead"] {
            let bytes = farewell(text);
            let packet = bytes.strip_prefix(VERSION).unwrap();
            assert_eq!(packet.len() % BLOCK, 0, "{text}");
            let (head, rest) = packet.split_at(5);
            assert_eq!(u32::from_be_bytes(head[..4].try_into().unwrap()) as usize, 1 + rest.len());
            assert!((4..=12).contains(&head[4]), "{}", head[4]);
            let said = format!("countersign: {text}");
            assert_eq!(&rest[9..9 + said.len()], said.as_bytes());
        }
    }
}
