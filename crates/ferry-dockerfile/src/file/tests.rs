use super::*;
use crate::instruction::{Form, Healthcheck};

fn parse(source: &str) -> Dockerfile {
    Dockerfile::parse(source, &mut Checks::default()).unwrap()
}

fn error(source: &str) -> String {
    Dockerfile::parse(source, &mut Checks::default()).unwrap_err().to_string()
}

fn warnings(source: &str) -> Vec<String> {
    let mut checks = Checks::of_file(source).unwrap();
    let _ = Dockerfile::parse(source, &mut checks);
    checks.warnings().iter().map(crate::check::Warning::short).collect()
}

fn first(line: &str) -> Instruction {
    parse(&format!("FROM a\n{line}")).stages.remove(0).statements.remove(0).instruction
}

#[test]
fn stages_have_names_bases_and_platforms() {
    let file = parse("ARG V=1\nFROM --platform=$P a:$V AS Build\nRUN x\nfrom b\n");
    assert_eq!(file.global_args[0].definitions[0].default.as_deref(), Some("1"));
    let stage = &file.stages[0];
    assert_eq!((stage.name.as_str(), stage.base.as_str(), stage.platform.as_str()), ("build", "a:$V", "$P"));
    assert_eq!(file.stage("BUILD"), Some(0));
    assert_eq!(file.stage("b"), None);
    assert_eq!(file.stages[1].keyword, "from");
}

#[test]
fn every_instruction_is_read() {
    for line in [
        "ADD a /b",
        "ARG a",
        "CMD a",
        "COPY a /b",
        "ENTRYPOINT a",
        "ENV a=b",
        "EXPOSE 1",
        "HEALTHCHECK NONE",
        "LABEL a=b",
        "MAINTAINER a",
        "ONBUILD RUN a",
        "RUN a",
        "SHELL [\"a\"]",
        "STOPSIGNAL a",
        "USER a",
        "VOLUME /a",
        "WORKDIR /a",
    ] {
        assert_eq!(first(line).name(), line.split(' ').next().unwrap());
        let lower = format!("{} {}", line.split(' ').next().unwrap().to_lowercase(), line.split_once(' ').unwrap().1);
        assert_eq!(first(&lower), first(line));
    }
}

#[test]
fn flags_of_copy_and_add() {
    let Instruction::Copy(copy) = first(
        "COPY --from=x --chown=1:2 --chmod=0644 --link --parents --exclude=*.a --exclude=b <<EOF c /d/\n\tx\nEOF\n",
    ) else {
        panic!()
    };
    assert_eq!((copy.from.as_str(), copy.chown.as_str(), copy.chmod.as_str()), ("x", "1:2", "0644"));
    assert!(copy.link && copy.parents);
    assert_eq!(copy.exclude, ["*.a", "b"]);
    assert_eq!(copy.sources.paths, ["c"]);
    assert_eq!(copy.sources.inline[0].content, "\tx\n");
    assert_eq!(copy.sources.destination, "/d/");
    let Instruction::Add(add) =
        first("ADD --checksum=sha256:a --keep-git-dir=true --unpack=false --link=false <<-'EOF' /d\n\tx\nEOF\n")
    else {
        panic!()
    };
    assert_eq!(
        (add.checksum.as_str(), add.keep_git_dir, add.unpack, add.link),
        ("sha256:a", Some(true), Some(false), false)
    );
    assert_eq!((add.sources.inline[0].content.as_str(), add.sources.inline[0].expand), ("x\n", false));
}

#[test]
fn command_lines_have_a_form() {
    let Instruction::Run(run) = first("RUN --network=none --security=insecure --mount=type=cache,target=/c echo a")
    else {
        panic!()
    };
    assert_eq!((run.command.form, run.command.words), (Form::Shell, vec!["echo a".to_owned()]));
    assert_eq!(run.mounts[0].text, "type=cache,target=/c");
    assert_eq!(run.flags_used, ["mount", "network", "security"]);
    let Instruction::Cmd(command) = first("CMD [\"a\", \"b\"]") else { panic!() };
    assert_eq!((command.form, command.words), (Form::Exec, vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn health_checks() {
    let Instruction::Healthcheck(Healthcheck::Check { test, interval, retries, .. }) =
        first("HEALTHCHECK --interval=5m --retries=2 CMD curl -f x")
    else {
        panic!()
    };
    assert_eq!((test, interval, retries), (vec!["CMD-SHELL".to_owned(), "curl -f x".to_owned()], 300_000_000_000, 2));
}

#[test]
fn triggers_keep_their_documents() {
    assert_eq!(first("ONBUILD  RUN <<EOF\na\nEOF\n"), Instruction::OnBuild("RUN <<EOF\na\nEOF".to_owned()));
    assert_eq!(first("onbuild copy a b"), Instruction::OnBuild("copy a b".to_owned()));
}

#[test]
fn errors_have_the_texts_of_buildkit() {
    for (source, text) in [
        ("", "the Dockerfile cannot be empty"),
        ("RUN a", "no build stage in current context"),
        ("ARG a", "dockerfile contains no stages to build"),
        ("FROM a\nFOO b", "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)"),
        ("FROM a\nRNU b", "dockerfile parse error on line 2: unknown instruction: RNU (did you mean RUN?)"),
        ("FROM a\ncpoy b", "dockerfile parse error on line 2: unknown instruction: cpoy (did you mean copy?)"),
        ("FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        ("FROM a b", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            "dockerfile parse error on line 1: invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        ("FROM --platfrm=x a", "dockerfile parse error on line 1: unknown flag: --platfrm (did you mean platform?)"),
        ("FROM a\nENV", "dockerfile parse error on line 2: ENV requires at least one argument"),
        ("FROM a\nENV =b", "dockerfile parse error on line 2: ENV names can not be blank"),
        ("FROM a\nARG =b", "dockerfile parse error on line 2: ARG names can not be blank"),
        ("FROM a\nARG", "dockerfile parse error on line 2: ARG requires at least one argument"),
        (
            "FROM a\nCOPY b",
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nCOPY b <<EOF\nEOF",
            "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination",
        ),
        ("FROM a\nWORKDIR", "dockerfile parse error on line 2: WORKDIR requires exactly one argument"),
        ("FROM a\nVOLUME [\" \"]", "dockerfile parse error on line 2: VOLUME specified can not be an empty string"),
        ("FROM a\nSHELL a", "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nONBUILD FROM b", "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger"),
        (
            "FROM a\nONBUILD ONBUILD RUN b",
            "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("FROM a\nHEALTHCHECK FOO", "dockerfile parse error on line 2: Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK CMD", "dockerfile parse error on line 2: Missing command after HEALTHCHECK CMD"),
        ("FROM a\nRUN --network=x b", "dockerfile parse error on line 2: invalid network mode \"x\""),
        ("FROM a\nRUN --security=x b", "dockerfile parse error on line 2: security \"x\" is not valid"),
    ] {
        assert_eq!(error(source), text, "{source}");
    }
}

#[test]
fn errors_show_their_lines() {
    let source = "FROM a\nFOO b\n";
    let error = Dockerfile::parse(source, &mut Checks::default()).unwrap_err();
    assert_eq!(
        error.excerpts("Dockerfile", source),
        "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> FOO b\n   3 |     \n--------------------\n"
    );
}

#[test]
fn checks_at_parse_time() {
    for (source, expected) in [
        ("FROM a AS Build", "StageNameCasing: Stage name 'Build' should be lowercase (line 1)"),
        ("FROM a as b", "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"),
        (
            "FROM a AS b\nFROM a AS b",
            "DuplicateStageName: Duplicate stage name \"b\", stage names should be unique (line 2)",
        ),
        (
            "FROM a AS scratch",
            "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 1)",
        ),
        (
            "FROM a\nMAINTAINER b",
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
        ),
        (
            "FROM a\nRUN b\nrun c",
            "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 3)",
        ),
        (
            "# check=experimental=all\n# about nothing\nFROM a AS b",
            "InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>` (line 3)",
        ),
    ] {
        assert_eq!(warnings(source), [expected], "{source}");
    }
    assert_eq!(warnings("# check=skip=all\nFROM a AS Build"), Vec::<String>::new());
    assert_eq!(warnings("# check=skip=StageNameCasing\nFROM a AS Build"), Vec::<String>::new());
}
