/** Shells as people use them, on a terminal of their own (`script` makes it): keys in, what stands on the line out. */
import { spawn, spawnSync } from 'node:child_process'
import { sleep, systemClock } from '../../src/lib/clock.ts'

export type ShellName = 'bash' | 'zsh' | 'fish'

const shells: Readonly<Record<ShellName, { readonly command: string; readonly begin: string }>> = {
  bash: { command: 'bash --norc --noprofile -i', begin: '' },
  zsh: { command: 'zsh -f -i', begin: 'bindkey -e; autoload -U compinit; compinit -u -D; ' },
  fish: { command: 'fish --no-config -i', begin: '' },
}

export const hasShell = (name: ShellName): boolean =>
  spawnSync('script', ['-qec', `${name} -c true`, '/dev/null']).status === 0

const TAB = '\t'
const LINE_START = '\u0001'

/**
 * Types each beginning and TAB, waits for the line that is wanted, and resolves with what the line became, in order. `setUp` is a command of the shell's.
 * The line is not run: `echo` is put before it.
 */
export async function completedBy(
  name: ShellName,
  setUp: string,
  wanted: readonly (readonly [beginning: string, completed: string])[],
  env: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  const { command, begin } = shells[name]
  const shell = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, TERM: 'dumb', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  shell.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const until = async (holds: () => boolean, limitMs: number) => {
    const end = systemClock.monotonicMs() + limitMs
    while (!holds() && systemClock.monotonicMs() < end) await sleep(systemClock, 50)
  }
  try {
    // Quotes part the words, so that the answer and not its echo is found.
    await sleep(systemClock, 300)
    shell.stdin.write(`${begin}${setUp}; echo is""ready\r`)
    await until(() => said.includes('isready'), 20_000)
    const completed: string[] = []
    for (const [beginning, whole] of wanted) {
      said = ''
      shell.stdin.write(`${beginning}${TAB}`)
      // Keys that come while a shell asks the program are not what they were meant to be.
      // Nor are those in the moment before it listens again: it does when it has been quiet for a while.
      await until(() => said.includes(whole), 20_000)
      for (let length = -1; length !== said.length; await sleep(systemClock, 700)) length = said.length
      shell.stdin.write(`${LINE_START}echo typed""so: \r`)
      await until(() => /typedso: .*\r?\n/.test(said), 20_000)
      completed.push(/typedso: (.*?)\r?\n/.exec(said)?.[1]?.trim() ?? `nothing: ${JSON.stringify(said)}`)
    }
    return completed
  } finally {
    // It would say that it was killed.
    shell.stdin.end('\u0004\u0004exit\r')
    shell.kill('SIGKILL')
  }
}
