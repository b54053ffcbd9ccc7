//! The values of keys, and the map of keys with their expiry.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use super::{
    Bytes,
    reply::{Stop, WRONG_TYPE},
    stream::Stream,
};

/// The value of a key.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    String(Bytes),
    /// Values by field.
    Hash(Hash),
    /// A list.
    List(List),
    /// Scores by member.
    SortedSet(SortedSet),
    /// A stream with its consumer groups.
    Stream(Stream),
}

/// Values by field.
pub type Hash = BTreeMap<Bytes, Bytes>;
/// A list.
pub type List = VecDeque<Bytes>;
/// Scores by member.
pub type SortedSet = BTreeMap<Bytes, f64>;

impl Value {
    /// The name of the type, as TYPE answers it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Hash(_) => "hash",
            Self::List(_) => "list",
            Self::SortedSet(_) => "zset",
            Self::Stream(_) => "stream",
        }
    }

    fn is_waited_for(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::List(_))
    }

    /// An estimate of the bytes in memory.
    pub(super) fn memory(&self) -> usize {
        let text = |bytes: &Bytes| bytes.len() + 24;
        64 + match self {
            Self::String(bytes) => bytes.len(),
            Self::Hash(hash) => hash.iter().map(|(field, value)| text(field) + text(value)).sum(),
            Self::List(list) => list.iter().map(text).sum(),
            Self::SortedSet(set) => set.keys().map(|member| text(member) + 40).sum(),
            Self::Stream(stream) => stream.memory(),
        }
    }
}

/// A type of values.
pub(super) trait Kind: Sized + Default {
    /// Whether commands wait for changes of such values.
    const IS_WAITED_FOR: bool;
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
}

macro_rules! kind {
    ($type:ty, $variant:ident, $is_waited_for:expr) => {
        impl Kind for $type {
            const IS_WAITED_FOR: bool = $is_waited_for;

            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }

            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    };
}

kind!(Bytes, String, false);
kind!(Hash, Hash, false);
kind!(List, List, true);
kind!(SortedSet, SortedSet, false);
kind!(Stream, Stream, true);

/// A value is copied only when it changes after the map was cloned.
#[derive(Clone, Debug)]
struct Item {
    value: Rc<Value>,
    /// The last millisecond in which the key exists.
    expiry: Option<u64>,
}

/// All keys with their values.
#[derive(Clone, Default, Debug)]
pub(super) struct Keyspace {
    items: BTreeMap<Rc<[u8]>, Item>,
    expiries: BTreeSet<(u64, Rc<[u8]>)>,
    /// Keys of streams and lists that changed.
    touched: Vec<Rc<[u8]>>,
}

fn touch(touched: &mut Vec<Rc<[u8]>>, key: &[u8]) {
    if touched.last().is_none_or(|last| **last != *key) {
        touched.push(key.into());
    }
}

impl Keyspace {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Value> {
        self.items.get(key).map(|item| &*item.value)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.items.contains_key(key)
    }

    /// The value of a key that has this type or does not exist.
    pub(super) fn read<T: Kind>(&self, key: &[u8]) -> Result<Option<&T>, Stop> {
        let Some(item) = self.items.get(key) else { return Ok(None) };
        T::of(&item.value).map(Some).ok_or(WRONG_TYPE)
    }

    /// The same, to be changed.
    pub(super) fn write<T: Kind>(&mut self, key: &[u8]) -> Result<Option<&mut T>, Stop> {
        let Some(item) = self.items.get_mut(key) else { return Ok(None) };
        if T::of(&item.value).is_none() {
            return Err(WRONG_TYPE);
        }
        if T::IS_WAITED_FOR {
            touch(&mut self.touched, key);
        }
        T::of_mut(Rc::make_mut(&mut item.value)).map(Some).ok_or(WRONG_TYPE)
    }

    /// The same; a missing key is created with an empty value.
    pub(super) fn create<T: Kind>(&mut self, key: &[u8]) -> Result<&mut T, Stop> {
        if !self.items.contains_key(key) {
            let item = Item { value: Rc::new(T::default().into_value()), expiry: None };
            self.items.insert(key.into(), item);
        }
        self.write(key).and_then(|found| found.ok_or(WRONG_TYPE))
    }

    /// Replaces the key, whatever its type.
    pub(super) fn set(&mut self, key: &[u8], value: Value, expiry: Option<u64>) {
        if let Some(item) = self.items.get_mut(key) {
            if item.value.is_waited_for() {
                touch(&mut self.touched, key);
            }
            item.value = Rc::new(value);
        } else {
            self.items.insert(key.into(), Item { value: Rc::new(value), expiry: None });
        }
        self.set_expiry(key, expiry);
    }

    pub(super) fn expiry(&self, key: &[u8]) -> Option<u64> {
        self.items.get(key).and_then(|item| item.expiry)
    }

    pub(super) fn set_expiry(&mut self, key: &[u8], expiry: Option<u64>) {
        let Some(item) = self.items.get_mut(key) else { return };
        if item.expiry == expiry {
            return;
        }
        let key: Rc<[u8]> = key.into();
        if let Some(before) = item.expiry {
            self.expiries.remove(&(before, key.clone()));
        }
        item.expiry = expiry;
        if let Some(expiry) = expiry {
            self.expiries.insert((expiry, key));
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        self.set_expiry(key, None);
        let Some(item) = self.items.remove(key) else { return false };
        if item.value.is_waited_for() {
            touch(&mut self.touched, key);
        }
        true
    }

    /// Moves the value and the expiry of a key; false if it does not exist.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let expiry = self.expiry(from);
        self.set_expiry(from, None);
        let Some(item) = self.items.remove(from) else { return false };
        self.remove(to);
        for key in [from, to] {
            touch(&mut self.touched, key);
        }
        self.items.insert(to.into(), item);
        self.set_expiry(to, expiry);
        true
    }

    pub(super) fn remove_expired(&mut self, now: u64) {
        while let Some((expiry, key)) = self.expiries.first()
            && *expiry < now
        {
            self.items.remove(key);
            touch(&mut self.touched, key);
            self.expiries.pop_first();
        }
    }

    pub(super) fn clear(&mut self) {
        let waited_for = self.items.iter().filter(|(_, item)| item.value.is_waited_for());
        self.touched.extend(waited_for.map(|(key, _)| key.clone()));
        self.items.clear();
        self.expiries.clear();
    }

    /// The number of changes that were not taken.
    pub(super) fn touches(&self) -> usize {
        self.touched.len()
    }

    /// Forgets changes from this one on.
    pub(super) fn untouch(&mut self, from: usize) {
        self.touched.truncate(from);
    }

    pub(super) fn take_touched(&mut self) -> Vec<Rc<[u8]>> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.items.iter().map(|(key, item)| (&**key, &*item.value))
    }
}
