/** The terminal of this process. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Terminal } from '../cli/context.ts'

export interface ProcessTerminal extends Terminal {
  /** Resolves when everything written has left: process.exit would cut a pipe's tail off. */
  flush(): Promise<void>
}

export function makeTerminal(signal: AbortSignal): ProcessTerminal {
  // A reader that has had enough (`mctl get … | head`) is no error.
  process.stdout.on('error', () => process.exit(0))
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    isTty: process.stdout.isTTY === true,
    readStdin,
    question: (prompt) => question(prompt, signal),
    edit,
    flush: async () => {
      await Promise.all(
        [process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))),
      )
    },
  }
}

async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** The editor has the terminal to itself; its name may hold arguments, as in EDITOR="code --wait". */
function edit(editor: string, file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', `${editor} "$1"`, 'sh', file], { stdio: 'inherit' })
    child.once('error', reject)
    child.once('exit', (code) =>
      code === 0
        ? resolve()
        : reject(new Error(`there was a problem with the editor "${editor}" (exit ${code ?? 'by a signal'})`)),
    )
  })
}

let lines: AsyncIterator<string> | undefined

function question(prompt: string, signal: AbortSignal): Promise<string | undefined> {
  if (process.stdin.isTTY) process.stderr.write(prompt)
  lines ??= createInterface({ input: process.stdin, signal })[Symbol.asyncIterator]()
  return lines.next().then(
    ({ value, done }) => (done ? undefined : value),
    () => undefined,
  )
}
