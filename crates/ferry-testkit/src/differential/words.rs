//! The command lines inside of a shell line of the table: which client commands it runs, with which words.
//!
//! Knows as much of the shell as the table uses: quotes, what parts commands, redirections. What runs inside of
//! quotes (`sh -c '…'`, `"$(…)"`) is a word and no command.

/// Words of the shell that may stand before a command.
const KEYWORDS: [&str; 10] = ["!", "if", "then", "else", "elif", "while", "until", "do", "time", "{"];

/// Returns the arguments of every `docker` that a shell line runs.
#[must_use]
pub fn clients(line: &str) -> Vec<Vec<String>> {
    let is_before = |word: &String| KEYWORDS.contains(&word.as_str()) || word.contains('=');
    let arguments = |words: Vec<String>| {
        let at = words.iter().position(|word| !is_before(word))?;
        (words[at] == "docker").then(|| words[at + 1..].to_vec())
    };
    commands(line).into_iter().filter_map(arguments).collect()
}

/// Cuts a line into simple commands and these into words without their quotes.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut cutter = Cutter::default();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => cutter.push_all(letters.by_ref().take_while(|&one| one != '\'')),
            '"' => {
                cutter.push_all([]);
                while let Some(inner) = letters.next().filter(|&one| one != '"') {
                    cutter.push_all(if inner == '\\' { letters.next() } else { Some(inner) });
                }
            }
            '\\' => cutter.push_all(letters.next()),
            '>' | '<' => {
                cutter.redirect();
                while letters.next_if(|&one| matches!(one, '&' | '>' | '<')).is_some() {}
            }
            ' ' | '\t' => cutter.end_word(),
            '|' | ';' | '&' | '(' | ')' | '\n' => cutter.end_command(),
            other => cutter.push_all([other]),
        }
    }
    cutter.end_command();
    cutter.commands
}

#[derive(Default)]
struct Cutter {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    /// The word that is being read; an empty one in quotes is one too.
    word: Option<String>,
    /// Whether that word says where a redirection goes.
    is_place: bool,
}

impl Cutter {
    fn push_all(&mut self, letters: impl IntoIterator<Item = char>) {
        self.word.get_or_insert_default().extend(letters);
    }

    fn redirect(&mut self) {
        // The number of a descriptor belongs to the redirection.
        if self.word.as_ref().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        self.is_place = true;
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if !std::mem::take(&mut self.is_place) {
            self.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        clients(line).iter().map(|words| words.join("|")).collect()
    }

    #[test]
    fn every_client_of_a_line_is_found() {
        for (line, wanted) in [
            ("docker ps -a", &["ps|-a"][..]),
            ("echo x | docker run -i busybox cat", &["run|-i|busybox|cat"]),
            ("B=2 docker run -e B busybox sh -c 'docker ps; x'", &["run|-e|B|busybox|sh|-c|docker ps; x"]),
            ("until docker logs a | grep -q x; do sleep 1; done", &["logs|a"]),
            ("docker kill a >/dev/null 2>&1; docker wait a", &["kill|a", "wait|a"]),
            ("docker load -q <x; docker run --entrypoint '' full", &["load|-q", "run|--entrypoint||full"]),
            ("(sleep 1; docker start a) & docker logs a; wait", &["start|a", "logs|a"]),
            ("docker export -o $HOME/x a && tar tf $HOME/x", &["export|-o|$HOME/x|a"]),
            ("docker run x sh -c \"a \\\"b\\\"\"", &["run|x|sh|-c|a \"b\""]),
            ("grep docker /x; echo docker", &[]),
        ] {
            assert_eq!(shown(line), wanted, "{line}");
        }
    }
}
