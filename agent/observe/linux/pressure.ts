/**
 * How short of memory a Linux machine is: pure. Two signs are read together. How much is left tells how near the kernel's
 * OOM killer is. Stalls (PSI: the share of the last ten seconds that processes stood waiting for memory) tell that what is
 * left is not enough: it is reclaimed and read again in a circle, long before the last page is gone.
 */
import type { Pressure } from '../facts.ts'

/** One limit that binds this process: the machine's memory, or a cgroup's. */
export interface MemoryView {
  readonly limitBytes: number
  /** Used for good: usage less the file cache that the kernel may drop. */
  readonly usedBytes: number
  /** Beyond a soft limit (`memory.high`) processes are slowed down, and none is killed. */
  readonly soft?: boolean
  /** Of whatever lives under this limit; absent: the kernel does not tell. */
  readonly stalls?: Stalls
}

/** In percent of the last ten seconds: at least one process waited for memory; all that had work did. */
export interface Stalls {
  readonly someAvg10: number
  readonly fullAvg10: number
}

/** Under this the kernel is about to kill. */
const CRITICAL_FREE_SHARE = 0.04
const WARN_FREE_SHARE = 0.1
/**
 * Stalls beside this much free memory are not ours: the machine's figure counts those of every container that meets a
 * limit of its own, and stopping a group would not help it.
 */
const STALLS_COUNT_BELOW_FREE_SHARE = 0.25
/** A sound machine stands at 0.00. With a tenth of the time lost nothing more should be placed here. */
const WARN_SOME_AVG10 = 10
/**
 * A fifth of the time nobody could work. systemd-oomd kills at 60 % for 30 s; a rank that stalls holds its whole gang up,
 * and the agent looks at it for ten seconds more before a group goes.
 */
const CRITICAL_FULL_AVG10 = 20

/** The worst of all limits that bind. */
export function pressureOf(views: readonly MemoryView[]): Pressure {
  const levels = views.map(levelOf)
  return levels.includes('Critical') ? 'Critical' : levels.includes('Warn') ? 'Warn' : 'Normal'
}

function levelOf({ limitBytes, usedBytes, soft = false, stalls }: MemoryView): Pressure {
  const freeShare = (limitBytes - usedBytes) / Math.max(1, limitBytes)
  const counted = freeShare < STALLS_COUNT_BELOW_FREE_SHARE ? stalls : undefined
  if (freeShare < CRITICAL_FREE_SHARE && !soft) return 'Critical'
  if ((counted?.fullAvg10 ?? 0) >= CRITICAL_FULL_AVG10) return 'Critical'
  if (freeShare < WARN_FREE_SHARE || (counted?.someAvg10 ?? 0) >= WARN_SOME_AVG10) return 'Warn'
  return 'Normal'
}
