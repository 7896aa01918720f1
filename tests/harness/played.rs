//! A directory that a story plays, for answers that no peer gives. It speaks plain LDAP on loopback and lets everybody bind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lber::structure::{PL, StructureTag};

/// A search that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub base: String,
    /// 0 for the entry itself.
    pub scope: u8,
    pub attributes: Vec<String>,
}

impl Asked {
    /// Whether an attribute is among those that are wanted, without regard to case.
    pub fn wants(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|wanted| wanted.eq_ignore_ascii_case(attribute))
    }
}

/// A distinguished name with its attributes.
pub type PlayedEntry = (String, Vec<(String, Vec<Vec<u8>>)>);

/// A listening directory.
#[derive(Debug)]
pub struct Played {
    address: SocketAddr,
    searches: Arc<AtomicUsize>,
}

impl Played {
    /// `answers` says which entries a search finds.
    pub fn new(answers: impl Fn(&Asked) -> Vec<PlayedEntry> + Send + Sync + 'static) -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (answers, searches) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
        let counted = searches.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (answers, counted) = (answers.clone(), counted.clone());
                thread::spawn(move || serve(connection, answers.as_ref(), &counted));
            }
        });
        Played { address, searches }
    }

    pub fn url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// How many searches were asked.
    pub fn searches(&self) -> usize {
        self.searches.load(Ordering::SeqCst)
    }
}

const SUCCESS: [&[u8]; 3] = [b"\x0a\x01\x00", b"\x04\x00", b"\x04\x00"];

/// Until the other side hangs up, or says something that is no LDAP.
fn serve(mut connection: TcpStream, answers: &dyn Fn(&Asked) -> Vec<PlayedEntry>, searches: &AtomicUsize) -> Option<()> {
    loop {
        let (id, operation) = read(&mut connection)?;
        let mut reply = |tag: u8, content: Vec<u8>| {
            let id = tlv(0x02, &id);
            connection.write_all(&tlv(0x30, &[id, tlv(tag, &content)].concat())).ok()
        };
        match operation.id {
            0 => reply(0x61, SUCCESS.concat())?,
            3 => {
                searches.fetch_add(1, Ordering::SeqCst);
                for (dn, attributes) in answers(&asked(operation)?) {
                    let attributes: Vec<u8> = attributes.iter().flat_map(|(name, values)| attribute(name, values)).collect();
                    reply(0x64, [tlv(0x04, dn.as_bytes()), tlv(0x30, &attributes)].concat())?;
                }
                reply(0x65, SUCCESS.concat())?;
            }
            _ => return None,
        }
    }
}

fn attribute(name: &str, values: &[Vec<u8>]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| tlv(0x04, value)).collect();
    tlv(0x30, &[tlv(0x04, name.as_bytes()), tlv(0x31, &values)].concat())
}

fn asked(operation: StructureTag) -> Option<Asked> {
    let PL::C(parts) = operation.payload else { return None };
    let text = |tag: &StructureTag| tag.clone().expect_primitive().and_then(|bytes| String::from_utf8(bytes).ok());
    let attributes = parts.get(7)?.clone().expect_constructed()?;
    Some(Asked {
        base: text(parts.first()?)?,
        scope: *parts.get(1)?.clone().expect_primitive()?.first()?,
        attributes: attributes.iter().map(text).collect::<Option<_>>()?,
    })
}

/// The number and the operation of the next message.
fn read(connection: &mut TcpStream) -> Option<(Vec<u8>, StructureTag)> {
    let mut head = [0; 2];
    connection.read_exact(&mut head).ok()?;
    let mut message = head.to_vec();
    let mut length = usize::from(head[1]);
    if length > 0x80 {
        let mut long = vec![0; length - 0x80];
        connection.read_exact(&mut long).ok()?;
        length = long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        message.extend(long);
    }
    let mut content = vec![0; length];
    connection.read_exact(&mut content).ok()?;
    message.extend(content);
    let (_, tag) = lber::parse::parse_tag(&message).ok()?;
    let PL::C(parts) = tag.payload else { return None };
    let mut parts = parts.into_iter();
    Some((parts.next()?.expect_primitive()?, parts.next()?))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a short answer").to_be_bytes();
    [&[tag, 0x84][..], &length, content].concat()
}
