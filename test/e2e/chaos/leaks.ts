/** What grows without end: file descriptors and memory of each process, and the store's write-ahead log. */
import { readFileSync, readdirSync } from 'node:fs'
import type { RealCluster, Role } from '../../support/realcluster.ts'

export interface Sample {
  readonly atSeconds: number
  readonly walBytes: number
  readonly processes: readonly ProcessSample[]
}

interface ProcessSample {
  readonly pid: number
  readonly role: Role
  readonly descriptors: number
  readonly rssBytes: number
}

export function sampleOf(cluster: RealCluster, atSeconds: number): Sample {
  const processes = cluster.living().flatMap(({ pid, role }): ProcessSample[] => {
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'latin1')
      const rssBytes = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1_024
      return [{ pid, role, descriptors: readdirSync(`/proc/${pid}/fd`).length, rssBytes }]
    } catch {
      return []
    }
  })
  return { atSeconds, walBytes: cluster.walBytes(), processes }
}

const MIB = 2 ** 20
/** Far above what each needs, and soon passed by what leaks with every request, restart or change. Engines hold models. */
const limits: Readonly<Partial<Record<Role, { descriptors: number; rssBytes: number }>>> = {
  server: { descriptors: 100, rssBytes: 500 * MIB },
  agent: { descriptors: 100, rssBytes: 400 * MIB },
  gateway: { descriptors: 150, rssBytes: 400 * MIB },
  shardhost: { descriptors: 100, rssBytes: 300 * MIB },
}
/** SQLite begins the WAL anew every 1,000 pages of 4 KiB; a reader or a burst may hold it up for a while. */
const WAL_LIMIT_BYTES = 32 * MIB

export function leaks(sample: Sample): readonly string[] {
  const found = sample.processes.flatMap(({ pid, role, descriptors, rssBytes }) => {
    const limit = limits[role]
    if (limit === undefined) return []
    return [
      ...(descriptors > limit.descriptors ? [`${role} ${pid} has ${descriptors} file descriptors`] : []),
      ...(rssBytes > limit.rssBytes ? [`${role} ${pid} has ${Math.round(rssBytes / MIB)} MiB`] : []),
    ]
  })
  return sample.walBytes > WAL_LIMIT_BYTES ? [...found, `the WAL has ${sample.walBytes} bytes`] : found
}

/** `server 31 fds 95 MiB, agent …` : the largest of each role. */
export function describeSample({ processes, walBytes }: Sample): string {
  const roles = [...new Set(processes.map((p) => p.role))].sort()
  const most = roles.map((role) => {
    const own = processes.filter((p) => p.role === role)
    const descriptors = Math.max(...own.map((p) => p.descriptors))
    const mib = Math.round(Math.max(...own.map((p) => p.rssBytes)) / MIB)
    return `${role} ${descriptors} fds ${mib} MiB`
  })
  return `${most.join(', ')}, WAL ${Math.round(walBytes / 1_024)} KiB`
}
