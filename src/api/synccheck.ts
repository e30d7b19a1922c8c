/** Rules between the fields of a Sync. */
import type { Cause } from '../lib/errors.ts'
import { forbidden, invalid, required } from './causes.ts'
import type { Rule } from './check.ts'
import { checkUnique } from './check.ts'
import type { GitSource, Sync } from './sync.ts'

const SOURCE = 'spec.source'

export const syncRules: readonly Rule<Sync>[] = [
  {
    reads: [SOURCE],
    check: ({ spec }) => {
      const { git, directory } = spec.source
      if (git === undefined && directory === undefined)
        return [required(SOURCE, 'exactly one of `git` and `directory` must be set')]
      if (git !== undefined && directory !== undefined)
        return [forbidden(`${SOURCE}.directory`, 'may not be set together with `git`')]
      return git === undefined ? checkDirectory(directory ?? '') : checkGit(`${SOURCE}.git`, git)
    },
  },
  {
    reads: ['spec.dependsOn', 'metadata.name'],
    check: ({ spec, metadata }) => [
      ...checkUnique('spec.dependsOn', spec.dependsOn, (name) => name),
      ...(spec.dependsOn ?? []).flatMap((name, index) =>
        name === metadata.name ? [invalid(`spec.dependsOn[${index}]`, name, 'a Sync cannot wait for itself')] : [],
      ),
    ],
  },
  {
    reads: ['spec.webhookSecret', SOURCE],
    check: ({ spec }) =>
      spec.webhookSecret !== undefined && spec.source.git === undefined
        ? [forbidden('spec.webhookSecret', 'may only be set for a git source')]
        : [],
  },
]

function checkGit(field: string, git: GitSource): Cause[] {
  const causes: Cause[] = []
  if (git.branch !== undefined && git.tag !== undefined)
    causes.push(forbidden(`${field}.tag`, 'may not be set together with `branch`'))
  for (const key of ['branch', 'tag'] as const)
    if (/\.\.|\/\/|@\{|\.lock(\/|$)|\/\./.test(git[key] ?? ''))
      causes.push(invalid(`${field}.${key}`, git[key], 'is not a name that git allows'))
  causes.push(...checkUrl(`${field}.url`, git.url))
  const paths = [git.path ?? '.', ...(git.extraPaths ?? [])]
  for (const [index, path] of paths.entries()) {
    const at = index === 0 ? `${field}.path` : `${field}.extraPaths[${index - 1}]`
    if (escapes(path)) causes.push(invalid(at, path, 'must stay inside the repository: no leading / and no ..'))
    else if (paths.some((other, o) => o < index && isBelow(path, other)))
      causes.push(invalid(at, path, 'lies in, or holds, another of the paths: each file may be read once'))
  }
  return causes
}

/** A password in an address would be told in every status and log. */
function checkUrl(field: string, text: string): Cause[] {
  const at = /^(https|ssh|file):\/\/([^/]*)/.exec(text)
  const [, scheme, authority = ''] = at ?? []
  const shown = text.replace(/\/\/[^/]*@/, '//…@')
  if (scheme !== 'ssh' && authority.includes('@'))
    return [invalid(field, shown, 'must not hold credentials: name them with `credentials`')]
  if (scheme === 'ssh' && /:[^/]*@/.test(authority))
    return [invalid(field, shown, 'must not hold a password: name a key with `credentials`')]
  // ssh takes a host that begins with a dash for an option.
  if (scheme !== 'file' && /^(?:[^@]*@)?(?:-|$|:)/.test(authority)) return [invalid(field, shown, 'must name a host')]
  return []
}

const escapes = (path: string): boolean => path.startsWith('/') || path.split('/').includes('..')

/** The path without `.` parts: '' is the root. */
export const normalPath = (path: string): string =>
  path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')

function isBelow(a: string, b: string): boolean {
  const [one, other] = [normalPath(a), normalPath(b)]
  return one === other || one === '' || other === '' || one.startsWith(`${other}/`) || other.startsWith(`${one}/`)
}

const checkDirectory = (directory: string): Cause[] =>
  directory.split('/').includes('..') ? [invalid(`${SOURCE}.directory`, directory, 'must not hold ..')] : []
