//! A disk that remembers what was done to it and in which order, and can be full.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// What was done to a disk.
#[derive(Clone, Debug)]
pub enum Op {
    Length(u64),
    Write(u64, Vec<u8>),
    Sync,
}

#[derive(Debug, Default)]
struct State {
    image: Vec<u8>,
    ops: Vec<Op>,
    /// How many more operations succeed that change something.
    left: Option<u64>,
}

/// One file on a disk. Its clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub fn new(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { image, ..State::default() })))
    }

    /// What a store is opened over.
    pub fn source(
        &self,
    ) -> impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static {
        let disk = self.clone();
        move || Ok(Box::new(disk.clone()))
    }

    pub fn image(&self) -> Vec<u8> {
        self.0.lock().image.clone()
    }

    /// How much was done so far.
    pub fn position(&self) -> usize {
        self.0.lock().ops.len()
    }

    pub fn ops(&self) -> Vec<Op> {
        self.0.lock().ops.clone()
    }

    /// From the next but `left` on nothing can be written, until this says otherwise.
    pub fn fail_after(&self, left: Option<u64>) {
        self.0.lock().left = left;
    }

    fn change(&self, op: Op) -> io::Result<()> {
        let mut state = self.0.lock();
        match &mut state.left {
            None => {}
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
        }
        apply(&mut state.image, &op)?;
        state.ops.push(op);
        Ok(())
    }
}

/// Does to an image what was done to the disk.
pub fn apply(image: &mut Vec<u8>, op: &Op) -> io::Result<()> {
    match op {
        Op::Length(length) => image.resize(usize::try_from(*length).unwrap(), 0),
        Op::Write(offset, data) => {
            let offset = usize::try_from(*offset).unwrap();
            let place = image.get_mut(offset..offset + data.len());
            place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(data);
        }
        Op::Sync => {}
    }
    Ok(())
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let offset = usize::try_from(offset).unwrap();
        let place = state.image.get(offset..offset + out.len());
        out.copy_from_slice(place.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Op::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Op::Write(offset, data.to_vec()))
    }
}
