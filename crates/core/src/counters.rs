//! What core dropped or refused, by reason: nothing is lost silently.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the node started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Frames that are not frames; each closes its link.
    bad_frames,
    /// Envelopes that are not envelopes, or of a kind that is not taken.
    bad_envelopes,
    /// Links closed because the peer broke the rules of a stream.
    abuses,
    /// Signals of an earlier incarnation, for another one, or of a peer that changed its key.
    stale_signals,
    /// Offers that came a second time.
    replayed_offers,
    /// Answers to calls that nobody waits for any more.
    late_replies,
    /// Messages of lossy classes that made room for newer ones, going out.
    lossy_dropped_out,
    /// Messages of lossy classes that made room for newer ones, coming in.
    lossy_dropped_in,
    /// Messages that expired here before an application took them.
    expired_in,
    /// Frames of links that had ended.
    stray_frames,
    /// Frames that net did not take; each ends its link.
    unsent_frames,
    /// Messages refused because too much of all peers waits for applications.
    inbox_full,
    /// Messages of peers' earlier lives that made room.
    orphans_dropped,
    /// Peers forgotten to make room for others.
    peers_forgotten,
    /// Offers of peers that the policy does not let in.
    offers_denied,
    /// Offers that came after this node's own membership had ended.
    offers_unanswered,
    /// Items of the mailbox whose senders the policy does not let in, or whose name is another's.
    mail_denied,
    /// Probes that came by mailbox too fast to be answered.
    mail_probes_dropped,
    /// Messages and calls that the policy does not allow their senders.
    messages_denied,
    /// Records and signals whose papers do not hold.
    distrusted,
}
