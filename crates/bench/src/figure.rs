//! One measured number and what it means.

use serde::Serialize;

use crate::contestant::Contestant;
use crate::measure::Measure;

/// One measured number. In JSON no key is ever absent; unknown is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// The measure it belongs to.
    pub measure: Measure,
    /// Who was measured.
    pub contestant: Contestant,
    /// The size of a message, where messages are sent.
    pub size_bytes: Option<u32>,
    /// What the number is.
    pub metric: Metric,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// How many samples it was made of.
    pub samples: u64,
    /// The number divided by that of gRPC unary in the same run.
    pub vs_grpc_unary: Option<f64>,
    /// The number divided by that of a gRPC stream in the same run.
    pub vs_grpc_bidi: Option<f64>,
    /// The number divided by that of coturn in the same run.
    pub vs_coturn: Option<f64>,
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Half of the samples are at or below it.
    P50,
    /// 99 in 100 samples are at or below it.
    P99,
    /// The largest sample.
    Max,
    /// Messages a second, the median of the rounds.
    Messages,
    /// Payload a second, the median of the rounds.
    Payload,
    /// Resident memory of the sending process before the run.
    SenderRssBefore,
    /// Resident memory of the sending process at its highest during the run.
    SenderRssPeak,
    /// Resident memory of the receiving process before the run.
    ReceiverRssBefore,
    /// Resident memory of the receiving process at its highest during the run.
    ReceiverRssPeak,
    /// Memory a link, in a process that has all links on one node.
    PerLinkHub,
    /// Memory a link, in a process that has one link on each of its nodes.
    PerLinkSpoke,
    /// Resident memory of a process.
    Rss,
    /// The share of one processor core.
    CpuShare,
    /// Runs that came whole within the limit.
    RunsWithinLimit,
    /// Answers that came by mailbox.
    ByMailbox,
    /// Until a link carries the traffic: half of the samples are at or below it.
    LinkP50,
    /// Until a link carries the traffic: the largest sample.
    LinkMax,
    /// From sending to the receiving application, p50.
    DeliveryP50,
    /// From sending to the receiving application, p99.
    DeliveryP99,
    /// From sending to the word that it is durable, p50.
    StoredP50,
    /// From sending to the word that it is durable, p99.
    StoredP99,
    /// Sealing, p50.
    SealP50,
    /// Opening, p50.
    OpenP50,
    /// Until all were registered.
    All,
    /// Resident memory of the registry with all connected.
    RegistryRss,
    /// Resident memory of the registry, a node.
    PerNode,
    /// What a relay adds to a round trip, p50: it is crossed twice.
    AddedP50,
    /// Allocations that were held at once.
    Allocations,
    /// Resident memory of a relay, an allocation.
    PerAllocation,
}

/// A unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Messages a second.
    PerSecond,
    /// Megabytes (10⁶ bytes) a second.
    MbPerSecond,
    /// Kibibytes.
    Kib,
    /// Percent.
    Percent,
    /// A number of things.
    Count,
}

impl Metric {
    /// A word or two for a table.
    pub const fn label(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Max => "max",
            Self::Messages => "messages",
            Self::Payload => "payload",
            Self::SenderRssBefore => "sender RSS before",
            Self::SenderRssPeak => "sender RSS peak",
            Self::ReceiverRssBefore => "receiver RSS before",
            Self::ReceiverRssPeak => "receiver RSS peak",
            Self::PerLinkHub => "a link, hub side",
            Self::PerLinkSpoke => "a link, other side",
            Self::Rss => "RSS",
            Self::CpuShare => "of a core",
            Self::RunsWithinLimit => "runs within 1 s",
            Self::ByMailbox => "answers by mailbox",
            Self::LinkP50 => "link in use, p50",
            Self::LinkMax => "link in use, max",
            Self::DeliveryP50 => "delivery, p50",
            Self::DeliveryP99 => "delivery, p99",
            Self::StoredP50 => "stored, p50",
            Self::StoredP99 => "stored, p99",
            Self::SealP50 => "seal, p50",
            Self::OpenP50 => "open, p50",
            Self::All => "until all are in",
            Self::RegistryRss => "registry's RSS",
            Self::PerNode => "a node, registry's RSS",
            Self::AddedP50 => "added to a round trip, p50",
            Self::Allocations => "allocations at once",
            Self::PerAllocation => "an allocation, relay's RSS",
        }
    }
}

impl Unit {
    /// The unit's symbol.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Us => "µs",
            Self::Ms => "ms",
            Self::PerSecond => "/s",
            Self::MbPerSecond => "MB/s",
            Self::Kib => "KiB",
            Self::Percent => "%",
            Self::Count => "",
        }
    }
}

impl Figure {
    /// A figure without a message size and without rivals.
    pub(crate) const fn alone(
        measure: Measure,
        metric: Metric,
        value: f64,
        unit: Unit,
        samples: u64,
    ) -> Self {
        Self {
            measure,
            contestant: Contestant::Waymesh,
            size_bytes: None,
            metric,
            value,
            unit,
            samples,
            vs_grpc_unary: None,
            vs_grpc_bidi: None,
            vs_coturn: None,
        }
    }
}

/// Fills the ratios against gRPC among figures of one measure.
pub(crate) fn compare(figures: &mut [Figure]) {
    let known: Vec<_> = figures.to_vec();
    let of = |figure: &Figure, rival: Contestant| {
        known
            .iter()
            .find(|other| {
                other.contestant == rival
                    && other.metric == figure.metric
                    && other.size_bytes == figure.size_bytes
            })
            .map(|other| figure.value / other.value)
    };
    for figure in figures {
        figure.vs_grpc_unary = of(figure, Contestant::GrpcUnary);
        figure.vs_grpc_bidi = of(figure, Contestant::GrpcBidi);
    }
}

/// Fills the ratios against coturn among figures of one measure.
pub(crate) fn compare_with_coturn(figures: &mut [Figure]) {
    let known: Vec<_> = figures.to_vec();
    for figure in figures {
        let rival = known
            .iter()
            .find(|other| other.contestant == Contestant::Coturn && other.metric == figure.metric);
        figure.vs_coturn = rival.map(|rival| figure.value / rival.value);
    }
}
