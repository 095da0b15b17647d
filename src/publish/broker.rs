//! The embedded broker: MQTT 3.1.1 on loopback, so that events can be subscribed to without
//! installing anything. QoS 0 and 1 both ways (QoS 2 is taken in and passed on as 1), retained
//! messages, last will, wildcards, keep-alive. Deliberately absent: sessions that outlive their
//! connection, authentication, TLS, MQTT 5, anything but 127.0.0.1.
//!
//! Packets are read and written by the codec of the MQTT client library; see [`Hub`] for the
//! memory and its limits.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, PubComp, PubRec, Publish,
    SubAck, Subscribe, SubscribeReasonCode, UnsubAck,
};
use rumqttc::mqttbytes::{self, Protocol, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::hub::{CLIENTS_MAX, ClientId, Hub, Message, Next};

/// Largest packet taken from a client, but for our own (whose discovery message may be larger).
const PACKET_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A connection that has not introduced itself by then is closed.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Reliable messages on their way to one client at most.
const IN_FLIGHT_MAX: usize = 64;
/// At the end, subscribers get this long to take the last messages.
const FLUSH_WITHIN: Duration = Duration::from_millis(300);
/// A keep-alive of none is taken for this long: half-open connections end some time.
const SILENCE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Opens the port. Only this host can reach it.
pub fn bind(port: u16) -> io::Result<StdListener> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

type SharedHub = Arc<Mutex<Hub>>;

fn lock(hub: &SharedHub) -> MutexGuard<'_, Hub> {
    hub.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves clients until `stop` changes or its sender goes. Must run in a tokio runtime.
pub async fn serve(listener: StdListener, mut stop: watch::Receiver<bool>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the embedded broker can't use its port");
            return;
        }
    };
    let hub = SharedHub::default();
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if clients.len() < CLIENTS_MAX => {
                    clients.spawn(attend(stream, Arc::clone(&hub)));
                }
                Ok(_) => tracing::warn!(CLIENTS_MAX, "the embedded broker has no room left"),
                // Out of file descriptors, say: better some time later than at once.
                Err(_) => sleep(Duration::from_millis(200)).await,
            },
            _ = clients.join_next(), if !clients.is_empty() => {}
            _ = stop.changed() => break,
        }
    }
    lock(&hub).dismiss_all();
    let all_left = async { while clients.join_next().await.is_some() {} };
    let _ = timeout(FLUSH_WITHIN, all_left).await;
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Parting {
    #[error("it disconnected")]
    Goodbye,
    #[error("it closed the connection without a goodbye")]
    HungUp,
    #[error("it was silent for too long")]
    Silent,
    #[error("{0}")]
    Dismissed(&'static str),
    #[error("it broke the protocol: {0}")]
    Protocol(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<mqttbytes::Error> for Parting {
    fn from(error: mqttbytes::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A connection from its first byte to its last will.
async fn attend(stream: TcpStream, hub: SharedHub) {
    // Messages are small, and wanted now.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire { stream, incoming: BytesMut::new() };
    let connect = match timeout(CONNECT_WITHIN, introduce(&mut wire)).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(parting)) => return tracing::debug!(%parting, "embedded broker: no client"),
        Err(_) => return,
    };
    let (id, wake) = lock(&hub).join(&connect.client_id);
    let silence_max = match connect.keep_alive {
        0 => SILENCE_MAX,
        seconds => Duration::from_secs(u64::from(seconds)) * 3 / 2,
    };
    let mut client = Client {
        wire,
        hub,
        id,
        wake,
        silence_max,
        in_flight: BTreeSet::new(),
        last_packet_id: 0,
        half_received: BTreeSet::new(),
    };
    let parting = match client.serve().await {
        Ok(()) => return,
        Err(parting) => parting,
    };
    tracing::debug!(client = connect.client_id, %parting, "embedded broker: client left");
    let mut hub = lock(&client.hub);
    hub.leave(id);
    if let (Some(will), false) = (connect.last_will, matches!(parting, Parting::Goodbye)) {
        hub.publish(will_message(will));
    }
}

/// Waits for CONNECT and checks it; the answer to a good one is sent by [`Client::serve`].
async fn introduce(wire: &mut Wire) -> Result<Connect, Parting> {
    let refuse = |code| Packet::ConnAck(ConnAck::new(code, false));
    let connect = match wire.read().await {
        Ok(Packet::Connect(connect)) if connect.protocol == Protocol::V4 => connect,
        Ok(Packet::Connect(_)) => {
            wire.write(&[refuse(ConnectReturnCode::RefusedProtocolVersion)]).await?;
            return Err(Parting::Protocol("only MQTT 3.1.1 is spoken here".to_owned()));
        }
        Ok(_) => return Err(Parting::Protocol("the first packet is not CONNECT".to_owned())),
        Err(parting) => {
            // Most likely another version of MQTT, whose CONNECT does not parse as ours.
            if matches!(parting, Parting::Protocol(_)) {
                wire.write(&[refuse(ConnectReturnCode::RefusedProtocolVersion)]).await?;
            }
            return Err(parting);
        }
    };
    if connect.client_id.is_empty() && !connect.clean_session {
        wire.write(&[refuse(ConnectReturnCode::BadClientId)]).await?;
        return Err(Parting::Protocol("a lasting session needs a client id".to_owned()));
    }
    Ok(connect)
}

fn will_message(will: LastWill) -> Message {
    Message {
        topic: will.topic.into(),
        payload: Bytes::copy_from_slice(&will.message),
        reliable: will.qos != QoS::AtMostOnce,
        retain: will.retain,
    }
}

/// The bytes of one connection.
struct Wire {
    stream: TcpStream,
    incoming: BytesMut,
}

impl Wire {
    /// The next packet. Safe to cancel.
    async fn read(&mut self) -> Result<Packet, Parting> {
        loop {
            match Packet::read(&mut self.incoming, PACKET_BYTES_MAX) {
                Ok(packet) => return Ok(packet),
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(error.into()),
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(Parting::HungUp);
            }
        }
    }

    async fn write(&mut self, packets: &[Packet]) -> Result<(), Parting> {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.write(&mut bytes, usize::MAX)?;
        }
        match timeout(WRITE_WITHIN, self.stream.write_all(&bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Parting::Dismissed("it reads too slowly")),
        }
    }
}

/// A client that has introduced itself.
struct Client {
    wire: Wire,
    hub: SharedHub,
    id: ClientId,
    wake: Arc<Notify>,
    silence_max: Duration,
    /// Packet ids that the client has yet to acknowledge.
    in_flight: BTreeSet<u16>,
    last_packet_id: u16,
    /// Packet ids of QoS 2 messages that were taken and are not released yet.
    half_received: BTreeSet<u16>,
}

impl Client {
    async fn serve(&mut self) -> Result<(), Parting> {
        let welcome = ConnAck::new(ConnectReturnCode::Success, false);
        self.wire.write(&[Packet::ConnAck(welcome)]).await?;
        let mut silent_at = Instant::now() + self.silence_max;
        let wake = Arc::clone(&self.wake);
        loop {
            self.deliver().await?;
            tokio::select! {
                read = timeout_at(silent_at, self.wire.read()) => {
                    let packet = read.map_err(|_| Parting::Silent)??;
                    silent_at = Instant::now() + self.silence_max;
                    self.answer(packet).await?;
                }
                () = wake.notified() => {}
            }
        }
    }

    /// Sends what is queued, as far as the client's acknowledgements allow.
    async fn deliver(&mut self) -> Result<(), Parting> {
        loop {
            let next = {
                let allowed = self.in_flight.len() < IN_FLIGHT_MAX;
                lock(&self.hub).next(self.id, allowed)
            };
            match next {
                Next::Deliver(message) => {
                    let publish = self.publish_packet(message);
                    self.wire.write(&[publish]).await?;
                }
                Next::Wait => return Ok(()),
                Next::Leave(reason) => return Err(Parting::Dismissed(reason)),
            }
        }
    }

    fn publish_packet(&mut self, message: Message) -> Packet {
        let (qos, pkid) = if message.reliable {
            (QoS::AtLeastOnce, self.free_packet_id())
        } else {
            (QoS::AtMostOnce, 0)
        };
        Packet::Publish(Publish {
            dup: false,
            qos,
            retain: message.retain,
            topic: message.topic.to_string(),
            pkid,
            payload: message.payload,
        })
    }

    /// The next packet id that is not in flight; at most [`IN_FLIGHT_MAX`] are.
    fn free_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if self.in_flight.insert(self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }

    async fn answer(&mut self, packet: Packet) -> Result<(), Parting> {
        let reply = match packet {
            Packet::Publish(publish) => self.take(publish),
            Packet::PubAck(ack) => {
                self.in_flight.remove(&ack.pkid);
                None
            }
            Packet::PubRel(release) => {
                self.half_received.remove(&release.pkid);
                Some(Packet::PubComp(PubComp::new(release.pkid)))
            }
            Packet::Subscribe(subscribe) => Some(self.subscribe(&subscribe)),
            Packet::Unsubscribe(unsubscribe) => {
                let mut hub = lock(&self.hub);
                for filter in &unsubscribe.topics {
                    hub.unsubscribe(self.id, filter);
                }
                Some(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))
            }
            Packet::PingReq => Some(Packet::PingResp),
            Packet::Disconnect => return Err(Parting::Goodbye),
            other => return Err(Parting::Protocol(format!("unexpected {other:?}"))),
        };
        match reply {
            Some(reply) => self.wire.write(&[reply]).await,
            None => Ok(()),
        }
    }

    fn take(&mut self, publish: Publish) -> Option<Packet> {
        let packet_id = publish.pkid;
        let qos = publish.qos;
        // A repeated QoS 2 message was passed on the first time.
        let is_new = qos != QoS::ExactlyOnce || self.half_received.insert(packet_id);
        if is_new {
            lock(&self.hub).publish(Message {
                topic: publish.topic.into(),
                // A copy: the slice would keep the whole buffer it was read into.
                payload: Bytes::copy_from_slice(&publish.payload),
                reliable: qos != QoS::AtMostOnce,
                retain: publish.retain,
            });
        }
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(Packet::PubAck(PubAck::new(packet_id))),
            QoS::ExactlyOnce => Some(Packet::PubRec(PubRec::new(packet_id))),
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> Packet {
        let mut hub = lock(&self.hub);
        let grant = |filter: &mqttbytes::v4::SubscribeFilter| {
            let reliable = filter.qos != QoS::AtMostOnce;
            if !hub.subscribe(self.id, &filter.path, reliable) {
                return SubscribeReasonCode::Failure;
            }
            let qos = if reliable { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            SubscribeReasonCode::Success(qos)
        };
        let codes = subscribe.filters.iter().map(grant).collect();
        Packet::SubAck(SubAck::new(subscribe.pkid, codes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds bytes to a real broker and checks that it still serves somebody else afterwards.
    fn survives(pieces: &[Vec<u8>]) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = bind(0).expect("a port");
            let address = listener.local_addr().expect("bound");
            let (_stop, stopped) = watch::channel(false);
            let server = tokio::spawn(serve(listener, stopped));
            let mut rude = TcpStream::connect(address).await.expect("accepted");
            for piece in pieces {
                if rude.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(rude);
            let stream = TcpStream::connect(address).await.expect("accepted");
            let mut wire = Wire { stream, incoming: BytesMut::new() };
            wire.write(&[Packet::Connect(Connect::new("polite"))]).await.expect("written");
            let answer = timeout(Duration::from_secs(20), wire.read()).await.expect("in time");
            let welcome = ConnAck::new(ConnectReturnCode::Success, false);
            assert_eq!(answer.expect("a packet"), Packet::ConnAck(welcome));
            assert!(!server.is_finished());
            server.abort();
        });
    }

    fn connect_bytes() -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let packet = Packet::Connect(Connect::new("rude"));
        packet.write(&mut bytes, usize::MAX).expect("encodes");
        bytes.to_vec()
    }

    #[test]
    fn an_unknown_version_is_refused_by_its_number() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = bind(0).expect("a port");
            let address = listener.local_addr().expect("bound");
            let (_stop, stopped) = watch::channel(false);
            tokio::spawn(serve(listener, stopped));
            let stream = TcpStream::connect(address).await.expect("accepted");
            let mut wire = Wire { stream, incoming: BytesMut::new() };
            let mut connect = Connect::new("modern");
            connect.protocol = Protocol::V5;
            wire.write(&[Packet::Connect(connect)]).await.expect("written");
            let refused = ConnAck::new(ConnectReturnCode::RefusedProtocolVersion, false);
            assert_eq!(wire.read().await.expect("an answer"), Packet::ConnAck(refused));
            assert!(matches!(wire.read().await, Err(Parting::HungUp)));
        });
    }

    proptest! {
        #![proptest_config(crate::testing::cases(60))]

        #[test]
        fn arbitrary_bytes_do_no_harm(
            introduced in any::<bool>(),
            noise in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 1..80), 1..6),
        ) {
            let mut pieces = if introduced { vec![connect_bytes()] } else { Vec::new() };
            pieces.extend(noise);
            survives(&pieces);
        }
    }

    proptest! {
        #![proptest_config(crate::testing::cases(4096))]

        /// The codec is not ours: packets of every type with any contents, whole and cut short.
        #[test]
        fn the_codec_never_panics(
            kind in 0_u8..16, flags in 0_u8..16,
            body in proptest::collection::vec(any::<u8>(), 0..60),
            length in proptest::option::of(0_u8..70),
        ) {
            let mut bytes = BytesMut::new();
            bytes.extend_from_slice(&[kind << 4 | flags, length.unwrap_or(body.len() as u8)]);
            bytes.extend_from_slice(&body);
            while let Ok(_packet) = Packet::read(&mut bytes, PACKET_BYTES_MAX) {}
        }
    }
}
