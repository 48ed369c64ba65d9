//! The scripts that run in the server, each as a whole or not at all. No value is ever a part of
//! their text.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs};

/// A script, and the hash by which the server knows it.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {$(
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = include_str!(concat!("lua/", $file));
            Script { text, hash: redis::Script::new(text).get_hash().to_owned() }
        });
    )*};
}

scripts! {
    OPEN = "open.lua";
    BEGIN = "begin.lua";
    ROTATE = "rotate.lua";
    END = "end.lua";
    KEEP = "keep.lua";
    FURTHER = "further.lua";
    ONCE = "once.lua";
}

/// A script with what it is to work on.
pub(super) struct Call {
    script: &'static Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn new(script: &'static Script) -> Self {
        Self { script, keys: Vec::new(), arguments: Vec::new() }
    }

    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    /// By its hash, which the server may have forgotten.
    pub(super) fn short(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    /// With its text, which the server then remembers.
    pub(super) fn long(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}
