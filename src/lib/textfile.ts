/** Small files that may not be there yet. */
import { readFileSync } from 'node:fs'

/** undefined: there is no such file. Throws Node's error for one that is there and cannot be read. */
export function textIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
