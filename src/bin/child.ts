/** A process of ours that `mctl dev` starts: its own session, its log in a file, an IPC channel that says when to stop. */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { sleep, systemClock } from '../lib/clock.ts'
import { nodeArgv } from '../lib/nodeargv.ts'

/** What `mctl dev` asks of its children over the channel. A closed channel means Stop: dev is gone. */
export type ParentWish = 'Stop' | 'Hurry'

/** What a server says to its parent once it serves: another process may hold the address that was asked for. */
export interface UpMessage {
  readonly gatewayUrl: string | undefined
}

export interface Child {
  readonly name: string
  readonly logFile: string
  readonly exited: Promise<void>
  /** What the child said of itself when it was up. Pending until then, and for ever when it never is. */
  readonly up: Promise<UpMessage>
  /** How it ended, in words; undefined while it lives. */
  readonly exitText: string | undefined
  tell(wish: ParentWish): void
  waitOrKill(timeoutMs: number): Promise<void>
}

export interface ChildOptions {
  readonly name: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly logFile: string
}

export function startChild(options: ChildOptions): Child {
  const log = openSync(options.logFile, 'a', 0o600)
  const [node = process.execPath, ...args] = nodeArgv(import.meta.url, 'mctl')
  const child = spawn(node, [...args, ...options.args], {
    detached: true,
    env: options.env,
    stdio: ['ignore', log, log, 'ipc'],
  })
  closeSync(log)
  let exitText: string | undefined
  const exited = new Promise<void>((resolve) =>
    child.on('exit', (code, signal) => {
      exitText = signal === null ? `exited with ${code ?? 0}` : `was ended by ${signal}`
      resolve()
    }),
  )
  const up = new Promise<UpMessage>((resolve) => child.once('message', (message) => resolve(message as UpMessage)))
  return {
    name: options.name,
    up,
    logFile: options.logFile,
    exited,
    get exitText() {
      return exitText
    },
    tell: (wish) => {
      if (child.connected) child.send(wish)
    },
    async waitOrKill(timeoutMs) {
      await Promise.race([exited, sleep(systemClock, timeoutMs)])
      if (exitText === undefined) child.kill('SIGKILL')
      await exited
    },
  }
}

/** For the child: what its parent asked of it. Neither signal ever aborts when there is no channel. */
export function followParent(): { readonly stop: AbortSignal; readonly hurry: AbortSignal } {
  const stop = new AbortController()
  const hurry = new AbortController()
  if (process.send !== undefined) {
    process.on('message', (wish: ParentWish) => (wish === 'Hurry' ? hurry : stop).abort())
    process.on('disconnect', () => stop.abort())
  }
  return { stop: stop.signal, hurry: hurry.signal }
}

/** For the child: tells its parent, if it has one, that it is up. */
export const tellUp = (message: UpMessage): void => void process.send?.(message)
