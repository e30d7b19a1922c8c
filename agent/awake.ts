/**
 * A Mac that serves does not fall asleep: while a shard runs, `caffeinate` holds sleep off; it ends with the agent that
 * started it. Elsewhere nothing is done. Not verified on hardware.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { Clock } from '../src/lib/clock.ts'
import { every } from '../src/lib/clock.ts'

const LOOK_MS = 5_000

export interface AwakeOptions {
  readonly platform: NodeJS.Platform
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Is a shard running here? */
  readonly busy: () => boolean
  /** argv of what holds sleep off until the process `pid` ends. */
  readonly holder?: (pid: number) => readonly string[]
}

/** -i: no idle sleep; -s: none on mains power either; -w: until that process has ended. */
const caffeinate = (pid: number): readonly string[] => ['caffeinate', '-i', '-s', '-w', String(pid)]

/** Runs until the signal aborts; then lets sleep come again. */
export async function keepAwake({ platform, clock, signal, busy, holder = caffeinate }: AwakeOptions): Promise<void> {
  if (platform !== 'darwin') return
  let held: ChildProcess | undefined
  const release = () => {
    held?.kill()
    held = undefined
  }
  await every(clock, LOOK_MS, signal, () => {
    if (!busy()) return release()
    if (held !== undefined) return
    const [command = '', ...args] = holder(process.pid)
    const child = spawn(command, args, { stdio: 'ignore' })
    held = child
    const gone = () => {
      if (held === child) held = undefined
    }
    child.once('exit', gone)
    child.once('error', gone)
  })
  release()
}
