/** The one engine process: started in its own session and group, its output logged, its events read from fd 3. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { Readable } from 'node:stream'
import { killGroup, startTimeOf } from '../../src/lib/process.ts'
import { LineSplitter } from './lines.ts'
import { parseEvent } from './phase.ts'
import type { EngineEvent, EngineLaunch } from './protocol.ts'

export interface EngineListener {
  onOutput(chunk: Buffer): void
  onLine(line: string): void
  onEvent(event: EngineEvent): void
  /** Once, when the process has ended and its output is read. */
  onEnd(code: number | null, signal: NodeJS.Signals | null): void
  /** Once, instead of onEnd: there is no process. */
  onSpawnError(error: Error): void
}

export interface RunningEngine {
  readonly pid: number
  readonly startTime: string
  /** To the engine's whole group. */
  signal(signal: NodeJS.Signals): void
}

/**
 * Starts the engine. MCTL_EVENTS_FD is added to its environment; nothing else is inherited. Undefined when there is no
 * process: `onSpawnError` tells why, later.
 */
export function startEngine(launch: EngineLaunch, listener: EngineListener): RunningEngine | undefined {
  const [command = '', ...args] = launch.argv
  const child = spawn(command, args, {
    cwd: launch.cwd,
    env: { ...launch.env, MCTL_EVENTS_FD: '3' },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    // Own session: nothing that reaches our group or a terminal reaches the engine, and its group dies as one.
    detached: true,
  })
  let over = false
  const once = (tell: () => void) => {
    if (!over) tell()
    over = true
  }
  child.on('error', (error) => {
    if (child.pid === undefined) once(() => listener.onSpawnError(error))
  })
  if (child.pid === undefined) return undefined

  const { pid } = child
  const outputs = readOutputs(child, listener)
  // A grandchild that holds the pipe open must not delay the end: the group is killed first.
  child.on('exit', () => killGroup(pid))
  child.on('close', (code, signal) =>
    once(() => {
      for (const output of outputs) output.finish()
      listener.onEnd(code, signal)
    }),
  )
  return {
    pid,
    startTime: startTimeOf(pid) ?? '',
    signal: (signal) => {
      if (child.exitCode === null && child.signalCode === null) signalGroup(pid, signal)
    },
  }
}

function readOutputs(child: ChildProcess, listener: EngineListener): readonly LineSplitter[] {
  const splitters: LineSplitter[] = []
  for (const stream of [child.stdout, child.stderr]) {
    const lines = new LineSplitter((line) => listener.onLine(line))
    splitters.push(lines)
    stream?.on('data', (chunk: Buffer) => {
      listener.onOutput(chunk)
      lines.push(chunk)
    })
  }
  const events = new LineSplitter((line) => {
    const event = parseEvent(line)
    if (event !== undefined) listener.onEvent(event)
  })
  const pipe = child.stdio[3] as Readable
  pipe.on('data', (chunk: Buffer) => events.push(chunk))
  // A reset of the pipe is the engine's end; that is told by `close`.
  pipe.on('error', () => {})
  return [...splitters, events]
}

/** We are the parent and have not reaped it, so the pid is still its own. */
function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
