/** Texts of Linux → figures. Pure; what is not there is undefined. */
import type { Stalls } from './pressure.ts'

/** One line of /proc/meminfo in bytes. */
export function meminfoBytes(meminfo: string, key: string): number | undefined {
  const match = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(meminfo)
  return match === null ? undefined : Number(match[1]) * 1024
}

/** A memory limit of a cgroup: `max` (v2) and the near-2^63 number (v1) mean none. */
export function cgroupLimitBytes(text: string | undefined): number | undefined {
  const value = Number(text?.trim() ?? NaN)
  return Number.isFinite(value) && value > 0 && value < 2 ** 60 ? value : undefined
}

/** One figure of memory.stat in bytes. */
export function cgroupStatBytes(stat: string | undefined, key: string): number | undefined {
  const match = new RegExp(`^${key} (\\d+)$`, 'm').exec(stat ?? '')
  return match === null ? undefined : Number(match[1])
}

export interface CgroupFolder {
  readonly version: 1 | 2
  readonly path: string
}

/**
 * Folders that may hold this process's memory limit, its own and each above it, from /proc/self/cgroup: v2 (`0::/a/b`)
 * under /sys/fs/cgroup, v1 (`4:memory:/a/b`) under /sys/fs/cgroup/memory. A limit of any of them binds.
 */
export function cgroupFolders(selfCgroup: string): readonly CgroupFolder[] {
  return selfCgroup.split('\n').flatMap((line): readonly CgroupFolder[] => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) return []
    if (controllers === '') return ancestors(path).map((p) => ({ version: 2, path: `/sys/fs/cgroup${p}` }))
    if (!controllers.split(',').includes('memory')) return []
    return ancestors(path).map((p) => ({ version: 1, path: `/sys/fs/cgroup/memory${p}` }))
  })
}

/** `/a/b` → `/a/b`, `/a`, ``. */
function ancestors(path: string): readonly string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..')
  return [...parts.keys(), parts.length].reverse().map((n) =>
    parts
      .slice(0, n)
      .map((p) => `/${p}`)
      .join(''),
  )
}

/** The processor's name in /proc/cpuinfo: x86 `model name`, some ARM boards `Model` or `Hardware`. */
export function chipName(cpuinfo: string): string | undefined {
  const match = /^(?:model name|Model|Hardware)\s*:\s*(.+)$/m.exec(cpuinfo)
  return match?.[1]?.replace(/\s+/g, ' ').trim()
}

/** Resident bytes in /proc/PID/status. */
export const residentBytes = (status: string): number => meminfoBytes(status, 'VmRSS') ?? 0

/** /proc/pressure/memory, or a cgroup's memory.pressure. undefined: this kernel keeps no such account. */
export function memoryStalls(text: string | undefined): Stalls | undefined {
  const avg10 = (who: 'some' | 'full') => new RegExp(`^${who} avg10=(\\d+(?:\\.\\d+)?) `, 'm').exec(text ?? '')?.[1]
  const [some, full] = [avg10('some'), avg10('full')]
  if (some === undefined || full === undefined) return undefined
  return { someAvg10: Number(some), fullAvg10: Number(full) }
}
