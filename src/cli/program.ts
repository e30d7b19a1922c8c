/** The command line as commander knows it: all names from the catalog, flags and action of the one that was called. */
import { Command, CommanderError } from 'commander'
import { catalog } from './catalog.ts'
import type { Done } from './commandform.ts'
import { examples, seeHelp, subcommand } from './commandform.ts'
import type { Cli } from './context.ts'
import { followContext } from './config/current.ts'
import { failureOf, tell } from './errors.ts'
import { habitOfCommand } from './habits.ts'

/** Runs one command; resolves with its exit code. Whatever goes wrong is told on stderr, it never rejects. */
export async function runCommand(cli: Cli, argv: readonly string[]): Promise<number> {
  let exitCode = 0
  const program = makeProgram(cli)
  const words = wordsInOrder(argv)
  try {
    await addCommands(program, words[0], cli, (code) => (exitCode = code))
    await program.parseAsync(words, { from: 'user' })
    return exitCode
  } catch (error) {
    // Help was asked for and printed, or commander has said what was wrong with the call.
    if (error instanceof CommanderError) return error.exitCode
    const failure = failureOf(error)
    tell(cli, failure)
    return failure.exitCode
  }
}

/** Flags that may stand before the command, too, as in kubectl: `mctl -n lab get md`. */
const early = /^(?:-n|-s|--namespace|--server|--context)(=.*)?$/

/** `help get` is `get --help`; nothing at all asks for help. */
function wordsInOrder(argv: readonly string[]): readonly string[] {
  const [first, second, ...others] = argv
  if (first === undefined) return ['--help']
  if (first === 'help') return [...argv.slice(1), '--help']
  const match = early.exec(first)
  if (match === null) return argv
  if (match[1] !== undefined) return [...wordsInOrder(argv.slice(1)), first]
  return second === undefined ? argv : [...wordsInOrder(others), first, second]
}

function makeProgram(cli: Cli): Command {
  return new Command('mctl')
    .description('Runs language models on a cluster of Mac minis the way Kubernetes runs containers.')
    .enablePositionalOptions()
    .helpCommand(false)
    .configureHelp({ subcommandTerm: (sub) => sub.name() })
    .showHelpAfterError(seeHelp('mctl'))
    .exitOverride()
    .configureOutput({
      writeOut: (text) => cli.terminal.out(text),
      writeErr: (text) => cli.terminal.err(text),
      outputError: (text, write) => write(usageText(text)),
    })
    .addHelpText('after', examples('mctl dev --nodes 2', 'mctl get nodes', 'mctl get --help'))
}

/** All by name, so that help lists them and a misspelt one is answered with the nearest; whole only the one called. */
async function addCommands(program: Command, called: string | undefined, cli: Cli, done: Done): Promise<void> {
  for (const { name, summary, load, hidden = false } of catalog) {
    const command = subcommand(program, name, summary, hidden)
    if (name !== called) continue
    ;(await load())(command, cli, done)
    followContext(command, cli)
  }
}

/** commander's sentences in kubectl's words; where kubectl has a command that is not here, what does the same. */
const usageText = (text: string) =>
  text
    .replace(/^(error: unknown command '([^']*)')(?:\n\(Did you mean [^)]*\))?/, (all, error: string, word: string) => {
      const habit = habitOfCommand(word)
      return habit === undefined ? all : `${error}\nIn mctl ${habit}.`
    })
    .replace(/^error: unknown option '(--[^']*)'/, 'error: unknown flag: $1')
    .replace(/^error: unknown option '(-[^']*)'/, "error: unknown shorthand flag in '$1'")
    .replace(/^error: unknown command '([^']*)'/, 'error: unknown command "$1" for "mctl"')
    .replace(/^error: option '(?:-\w, )?(--[\w-]+)[^']*' argument missing/, 'error: flag needs an argument: $1')
