// Small file words: what a step leaves behind is there whole or not at all.
import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { sha256 } from './paths.mjs'

export function writeAtomic(path, text) {
  mkdirSync(dirname(path), { recursive: true })
  const part = `${path}.${process.pid}.part`
  writeFileSync(part, text)
  renameSync(part, path)
}

/** The file's text, or undefined when it is not there. */
export function readOptional(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  }
}

export async function sha256OfFile(path) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}

/** A hash over names and contents; folders are walked, caches and missing paths left out. */
export function hashTree(root, names) {
  return sha256(...names.flatMap((name) => contentsOf(join(root, name), name)))
}

function contentsOf(path, name) {
  if (name.endsWith('__pycache__') || name.endsWith('.DS_Store')) return []
  let entries
  try {
    entries = readdirSync(path).sort()
  } catch (error) {
    if (error.code === 'ENOENT') return []
    if (error.code !== 'ENOTDIR') throw error
    return [`${name}\0`, readFileSync(path), '\0']
  }
  return entries.flatMap((entry) => contentsOf(join(path, entry), `${name}/${entry}`))
}
