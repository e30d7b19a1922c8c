/** What an agent must not forget: the one cluster that it obeys, and who it is. A small file; the simulator keeps it in memory. */
import { mkdir, open, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { OpError } from '../src/lib/errors.ts'
import { textIfThere } from '../src/lib/textfile.ts'

export interface Recorded {
  /** '' before the agent ever met a cluster. */
  readonly clusterUid: string
  /** Made once: tells this agent, also after a restart, from another one of the same name. '' before. */
  readonly agentId: string
}

export interface AgentRecord {
  read(): Promise<Recorded>
  write(recorded: Recorded): Promise<void>
}

export function memoryRecord(clusterUid = ''): AgentRecord {
  let recorded: Recorded = { clusterUid, agentId: '' }
  return {
    read: () => Promise.resolve(recorded),
    write: (next) => {
      recorded = next
      return Promise.resolve()
    },
  }
}

/** `<dataDir>/agent.json`, written atomically. A damaged file is an error: guessing another cluster would end shards. */
export function fileRecord(dataDir: string): AgentRecord {
  const path = join(dataDir, 'agent.json')
  return {
    async read() {
      const text = textIfThere(path)
      if (text === undefined) return { clusterUid: '', agentId: '' }
      const recorded = recordedIn(text)
      if (recorded === undefined)
        throw new OpError(
          'Invalid',
          `read ${path}: it names no cluster; restore it, or remove it once no shard runs on this node`,
        )
      return recorded
    },
    async write(recorded) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      const file = await open(`${path}.new`, 'w', 0o600)
      try {
        await file.writeFile(`${JSON.stringify(recorded)}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(`${path}.new`, path)
    },
  }
}

function recordedIn(text: string): Recorded | undefined {
  try {
    const { clusterUid, agentId } = JSON.parse(text) as { readonly [key in keyof Recorded]?: unknown }
    return typeof clusterUid === 'string' && typeof agentId === 'string' ? { clusterUid, agentId } : undefined
  } catch {
    return undefined
  }
}
