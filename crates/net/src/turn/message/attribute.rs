//! The numbers of attributes and errors.

/// The number of an attribute; below 0x8000 a receiver must understand it (RFC 8489 §14).
pub type AttributeType = u16;

/// Attribute types (RFC 8489 §18.3, RFC 8656 §18, RFC 5780 §9.1).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]
    use super::AttributeType;

    pub const MAPPED_ADDRESS: AttributeType = 0x0001;
    pub const CHANGE_REQUEST: AttributeType = 0x0003;
    pub const USERNAME: AttributeType = 0x0006;
    pub const MESSAGE_INTEGRITY: AttributeType = 0x0008;
    pub const ERROR_CODE: AttributeType = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: AttributeType = 0x000a;
    pub const CHANNEL_NUMBER: AttributeType = 0x000c;
    pub const LIFETIME: AttributeType = 0x000d;
    pub const XOR_PEER_ADDRESS: AttributeType = 0x0012;
    pub const DATA: AttributeType = 0x0013;
    pub const REALM: AttributeType = 0x0014;
    pub const NONCE: AttributeType = 0x0015;
    pub const XOR_RELAYED_ADDRESS: AttributeType = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: AttributeType = 0x0017;
    pub const EVEN_PORT: AttributeType = 0x0018;
    pub const REQUESTED_TRANSPORT: AttributeType = 0x0019;
    pub const DONT_FRAGMENT: AttributeType = 0x001a;
    pub const MESSAGE_INTEGRITY_SHA256: AttributeType = 0x001c;
    pub const PASSWORD_ALGORITHM: AttributeType = 0x001d;
    pub const USERHASH: AttributeType = 0x001e;
    pub const XOR_MAPPED_ADDRESS: AttributeType = 0x0020;
    pub const RESERVATION_TOKEN: AttributeType = 0x0022;
    pub const PADDING: AttributeType = 0x0026;
    pub const RESPONSE_PORT: AttributeType = 0x0027;
    pub const ADDITIONAL_ADDRESS_FAMILY: AttributeType = 0x8000;
    pub const ADDRESS_ERROR_CODE: AttributeType = 0x8001;
    pub const PASSWORD_ALGORITHMS: AttributeType = 0x8002;
    pub const SOFTWARE: AttributeType = 0x8022;
    pub const ICMP: AttributeType = 0x8004;
    pub const ALTERNATE_SERVER: AttributeType = 0x8023;
    pub const FINGERPRINT: AttributeType = 0x8028;
    pub const RESPONSE_ORIGIN: AttributeType = 0x802b;
    pub const OTHER_ADDRESS: AttributeType = 0x802c;
}

/// Error codes (RFC 8489 §14.8, RFC 8656 §19).
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the RFCs")]

    pub const TRY_ALTERNATE: u16 = 300;
    pub const BAD_REQUEST: u16 = 400;
    pub const UNAUTHENTICATED: u16 = 401;
    pub const FORBIDDEN: u16 = 403;
    pub const UNKNOWN_ATTRIBUTE: u16 = 420;
    pub const ALLOCATION_MISMATCH: u16 = 437;
    pub const STALE_NONCE: u16 = 438;
    pub const ADDRESS_FAMILY_NOT_SUPPORTED: u16 = 440;
    pub const WRONG_CREDENTIALS: u16 = 441;
    pub const UNSUPPORTED_TRANSPORT: u16 = 442;
    pub const PEER_ADDRESS_FAMILY_MISMATCH: u16 = 443;
    pub const ALLOCATION_QUOTA_REACHED: u16 = 486;
    pub const SERVER_ERROR: u16 = 500;
    pub const INSUFFICIENT_CAPACITY: u16 = 508;
}
