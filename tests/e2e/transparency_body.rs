//! Bodies made from a seed.

use crate::random::Random;

/// A body by what it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    pub seed: u64,
    pub length: usize,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bytes,
    Gzip,
    Form,
    Json,
}

impl Body {
    pub const NONE: Self = Self { seed: 0, length: 0, kind: Kind::Bytes };

    pub fn bytes(self) -> Vec<u8> {
        let mut random = Random(self.seed);
        match self.kind {
            Kind::Bytes => random.bytes(self.length),
            Kind::Gzip => gzip(&random.bytes(self.length)),
            Kind::Form => form(&mut random, self.length),
            Kind::Json => format!("{{\"a\":\"{}\"}}", "x\\u00e4".repeat(self.length / 7)).into(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.size() == 0
    }

    /// How long it is.
    pub fn size(self) -> usize {
        match self.kind {
            Kind::Bytes => self.length,
            Kind::Gzip => 18 + self.length + 5 * self.length.div_ceil(65_535).max(1),
            Kind::Form | Kind::Json => self.bytes().len(),
        }
    }

    pub fn any(random: &mut Random) -> Self {
        let length = match random.below(1000) {
            0 => random.between(1024 * 1024, 5 * 1024 * 1024),
            1 => 5 * 1024 * 1024,
            2..15 => random.between(65_537, 300_000),
            15..100 => random.between(4_097, 65_536),
            100..150 => *random.pick(&[1, 2, 4_095, 4_096, 16_383, 16_384, 65_535, 65_536, 65_537]),
            150..300 => 0,
            _ => random.between(1, 4_096),
        };
        Self { seed: random.next(), length, kind: Kind::Bytes }
    }
}

/// A gzip member of stored blocks (RFC 1951 §3.2.4, RFC 1952): who decodes it gets something else.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<&[u8]> =
        if content.is_empty() { vec![content] } else { content.chunks(65_535).collect() };
    for (at, block) in blocks.iter().enumerate() {
        out.push(u8::from(at + 1 == blocks.len()));
        let length = u16::try_from(block.len()).unwrap();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let table: Vec<u32> = (0..256)
        .map(|byte| {
            (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
        })
        .collect();
    let crc = !content
        .iter()
        .fold(!0_u32, |crc, byte| crc >> 8 ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
    out
}

/// A grant that is the upstream's business, of about this length.
fn form(random: &mut Random, length: usize) -> Vec<u8> {
    let mut out = random
        .pick(&[
            "grant_type=client_credentials&scope=a%20b+c",
            "grant_type=refresh_token&refresh_token=of-somebody-else&client_id=app",
            "grant_type=authorization_code&code=SplxlOBeZQQYbYS6WxSbIA&redirect_uri=https%3A%2F%2Fa",
            "grant_type=password&username=j%c3%b6&password=100%25%zz",
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ.eyJ.x",
            "grant%5Ftype=urn:ietf:params:oauth:grant-type:device_code&device_code=x&&=&a",
            "scope=a;scope=b&grant_type=client_credentials",
            "token=of-somebody-else&token_type_hint=access_token",
            "",
        ])
        .as_bytes()
        .to_vec();
    while out.len() < length {
        let some: &[&[u8]] = &[
            b"&x=",
            b"abc",
            b"%41",
            b"+",
            b"%e4",
            b"=",
            b"&",
            b"\xc3\xa4",
            b"%",
            b"~",
            b"\xff",
            b"/",
        ];
        let piece = random.pick(some);
        out.extend_from_slice(piece);
    }
    out
}
