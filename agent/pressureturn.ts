/**
 * Several agents on one machine (`mctl dev`) see the same pressure, and one group less must do before a second one goes:
 * whoever is first in a span of time has the turn. A claim is a file named after its span, made exclusively, so there is
 * no stale one to judge; an agent that dies with the turn delays the next one by one span.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../src/lib/clock.ts'
import { CRITICAL_MS } from './pressure.ts'

export interface PressureTurn {
  /** May this agent stop a group for the machine's memory now? Asked again within its turn: yes. */
  take(): boolean
}

export const aloneHere: PressureTurn = { take: () => true }

const PREFIX = 'turn-'

/** `folder` is the same for all agents of one machine and user. Where it cannot be used every agent is alone. */
export function sharedTurn(folder: string, clock: Pick<Clock, 'nowMs'>, own = String(process.pid)): PressureTurn {
  const file = (span: number) => join(folder, `${PREFIX}${span}`)
  const claimAt = (span: number): { readonly by: string; readonly atMs: number } | undefined => {
    try {
      const [by = '', atMs] = readFileSync(file(span), 'utf8').split(' ')
      return { by, atMs: Number(atMs) }
    } catch {
      return undefined
    }
  }
  return {
    take() {
      const nowMs = clock.nowMs()
      const span = Math.floor(nowMs / CRITICAL_MS)
      const before = claimAt(span - 1)
      if (before !== undefined && before.by !== own && nowMs - before.atMs < CRITICAL_MS) return false
      try {
        mkdirSync(folder, { recursive: true, mode: 0o700 })
        writeFileSync(file(span), `${own} ${nowMs}`, { flag: 'wx', mode: 0o600 })
        forget(folder, span - 1)
        return true
      } catch (error) {
        return (error as NodeJS.ErrnoException).code !== 'EEXIST' || claimAt(span)?.by === own
      }
    },
  }
}

function forget(folder: string, beforeSpan: number): void {
  for (const name of readdirSync(folder))
    if (name.startsWith(PREFIX) && Number(name.slice(PREFIX.length)) < beforeSpan)
      rmSync(join(folder, name), { force: true })
}
