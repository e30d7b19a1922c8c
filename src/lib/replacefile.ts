/** A file that is whole or as it was before, whatever happens meanwhile: written beside, flushed, renamed. */
import { renameSync, writeFileSync } from 'node:fs'

/** 0600: only its owner reads it. The folder must be there. */
export function replacePrivateFile(file: string, text: string): void {
  const beside = `${file}.new`
  writeFileSync(beside, text, { mode: 0o600, flush: true })
  renameSync(beside, file)
}
