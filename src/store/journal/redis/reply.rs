//! What scripts answer.

use redis::Value;

use super::wire::Malformed;
use crate::store::stamp::ReplicationId;

/// A script's answer, taken from its beginning.
pub struct Reply {
    /// Which master ran it.
    pub replication: ReplicationId,
    /// How it went, where a script says so first.
    pub outcome: Vec<u8>,
    left: std::vec::IntoIter<Value>,
}

impl Reply {
    /// # Errors
    ///
    /// [`Malformed`] if it doesn't begin with a replication id.
    pub fn new(values: Vec<Value>) -> Result<Self, Malformed> {
        let mut left = values.into_iter();
        let replication = match left.next() {
            Some(Value::BulkString(text)) => ReplicationId::parse(&text),
            _ => None,
        };
        Ok(Self { replication: replication.ok_or(Malformed)?, outcome: Vec::new(), left })
    }

    /// Bytes; `None` for nil.
    pub fn optional(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        match self.left.next() {
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(Value::SimpleString(text)) => Ok(Some(text.into_bytes())),
            Some(Value::Int(number)) => Ok(Some(number.to_string().into_bytes())),
            Some(Value::Nil | Value::Boolean(false)) => Ok(None),
            _ => Err(Malformed),
        }
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        self.optional()?.ok_or(Malformed)
    }

    /// A whole number, written out.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let bytes = self.bytes()?;
        std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
    }

    /// A list, to be taken alike.
    pub fn list(&mut self) -> Result<Self, Malformed> {
        match self.left.next() {
            Some(Value::Array(values)) => {
                Ok(Self { replication: self.replication, outcome: Vec::new(), left: values.into_iter() })
            }
            _ => Err(Malformed),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.left.as_slice().is_empty()
    }
}
