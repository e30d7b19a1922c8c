/** `<dataDir>/thunderbolt.json`: what was changed of the network, for undoing it. Gone when nothing is changed. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { OpError } from '../../src/lib/errors.ts'
import { replacePrivateFile } from '../../src/lib/replacefile.ts'
import { textIfThere } from '../../src/lib/textfile.ts'
import type { LinkRecord } from './plan.ts'
import { isEmptyRecord } from './plan.ts'

export interface LinkRecordFile {
  /** undefined: nothing is changed. OpError Invalid for a file that was damaged: what is set can then not be told from what people set. */
  read(): LinkRecord | undefined
  write(record: LinkRecord): void
}

export function linkRecordFile(dataDir: string): LinkRecordFile {
  const path = join(dataDir, 'thunderbolt.json')
  return {
    read() {
      const text = textIfThere(path)
      if (text === undefined) return undefined
      const record = recordIn(text)
      if (record === undefined)
        throw new OpError(
          'Invalid',
          `read ${path}: it is damaged. Restart this Mac (that undoes what was set), then remove the file`,
        )
      return record
    },
    write: (record) =>
      isEmptyRecord(record) ? rmSync(path, { force: true }) : replacePrivateFile(path, JSON.stringify(record)),
  }
}

function recordIn(text: string): LinkRecord | undefined {
  try {
    const { bootId, given, raised, bridges } = JSON.parse(text) as { readonly [key in keyof LinkRecord]?: unknown }
    const isWhole = typeof bootId === 'string' && [given, raised, bridges].every(Array.isArray)
    return isWhole ? ({ bootId, given, raised, bridges } as LinkRecord) : undefined
  } catch {
    return undefined
  }
}
