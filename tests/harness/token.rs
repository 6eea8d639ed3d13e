//! A security key without the hardware: what it signs is byte for byte what one would (OpenSSH PROTOCOL.u2f,
//! PROTOCOL.sshsig), with the flags that a test wants.

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256, Sha512};

const KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
const APPLICATION: &[u8] = b"ssh:";

pub struct Token(SigningKey);

impl Token {
    /// Nobody was there.
    pub const UNTOUCHED: u8 = 0;
    /// A hand was there.
    pub const TOUCHED: u8 = 1;
    /// And the key checked whose: a PIN or a finger.
    pub const VERIFIED: u8 = 5;

    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    fn blob(&self) -> Vec<u8> {
        [string(KIND), string(self.0.verifying_key().as_bytes()), string(APPLICATION)].concat()
    }

    /// As in `authorized_keys`.
    pub fn public(&self) -> String {
        format!("{} {}", String::from_utf8_lossy(KIND), BASE64.encode(&self.blob()))
    }

    /// `SHA256:…`
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", data_encoding::BASE64_NOPAD.encode(&Sha256::digest(self.blob())))
    }

    /// What `ssh-keygen -Y sign` would print for a key that answers with these flags.
    pub fn signs(&self, namespace: &str, bytes: &[u8], flags: u8) -> String {
        let rest = [string(namespace.as_bytes()), string(b""), string(b"sha512")].concat();
        let message = [&b"SSHSIG"[..], &rest, &string(&Sha512::digest(bytes))].concat();
        let counter = [&[flags][..], &7u32.to_be_bytes()].concat();
        let asked = [&Sha256::digest(APPLICATION)[..], &counter, &Sha256::digest(&message)].concat();
        let signature = [string(KIND), string(&self.0.sign(&asked).to_bytes()), counter].concat();
        let blob = [&b"SSHSIG\0\0\0\x01"[..], &string(&self.blob()), &rest, &string(&signature)].concat();
        let text = BASE64.encode(&blob);
        let lines: Vec<String> = text.as_bytes().chunks(70).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}
