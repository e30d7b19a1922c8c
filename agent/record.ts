/** What an agent must not forget: the one cluster that it obeys. A small file; the simulator keeps it in memory. */
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { OpError } from '../src/lib/errors.ts'

export interface AgentRecord {
  /** '' before the agent ever met a cluster. */
  readClusterUid(): Promise<string>
  writeClusterUid(uid: string): Promise<void>
}

export function memoryRecord(clusterUid = ''): AgentRecord {
  let uid = clusterUid
  return {
    readClusterUid: () => Promise.resolve(uid),
    writeClusterUid: (next) => {
      uid = next
      return Promise.resolve()
    },
  }
}

/** `<dataDir>/agent.json`, written atomically. A damaged file is an error: guessing another cluster would end shards. */
export function fileRecord(dataDir: string): AgentRecord {
  const path = join(dataDir, 'agent.json')
  return {
    async readClusterUid() {
      let text: string
      try {
        text = await readFile(path, 'utf8')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
        throw error
      }
      const uid = clusterUidIn(text)
      if (uid === undefined)
        throw new OpError(
          'Invalid',
          `read ${path}: it names no cluster; restore it, or remove it once no shard runs on this node`,
        )
      return uid
    },
    async writeClusterUid(uid) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      const file = await open(`${path}.new`, 'w', 0o600)
      try {
        await file.writeFile(`${JSON.stringify({ clusterUid: uid })}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(`${path}.new`, path)
    },
  }
}

function clusterUidIn(text: string): string | undefined {
  try {
    const record: unknown = JSON.parse(text)
    const uid = (record as { clusterUid?: unknown } | null)?.clusterUid
    return typeof uid === 'string' ? uid : undefined
  } catch {
    return undefined
  }
}
