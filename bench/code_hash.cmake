# Writes code_hash.h: for each operator a hash of the sources that its kernels are made of,
# by which the tuning cache tells whether what was tuned is still what is built.  Run as a
# script with SOURCE (impl/) and OUTPUT; rewritten only when a hash changes.
#
# An operator's sources are the files of its family (conv.h, conv_*.c, …), whatever these
# include from core/ and ops/, with the sources that belong to each header, and the flags
# in CMakeLists.txt.  An operator is known by the name in dlb_op_<name>.

cmake_policy(VERSION 3.20)

# Adds the headers and sources named stem.* and stem_*.
macro(add_family stem)
  file(GLOB family RELATIVE ${SOURCE} ${SOURCE}/${stem}.[ch] ${SOURCE}/${stem}_*.[ch])
  list(APPEND queue ${family})
endmacro()

function(collect start found)
  set(queue)
  set(seen CMakeLists.txt)
  add_family(${start})
  while(queue)
    list(POP_FRONT queue file)
    if(file IN_LIST seen)
      continue()
    endif()
    list(APPEND seen ${file})
    file(STRINGS ${SOURCE}/${file} includes REGEX "^#include \"(core|ops)/")
    foreach(include IN LISTS includes)
      string(REGEX MATCH "(core|ops)/[a-z0-9_]+" stem "${include}")
      add_family(${stem})
    endforeach()
  endwhile()
  list(SORT seen)
  set(${found} ${seen} PARENT_SCOPE)
endfunction()

set(HASHES "")
file(GLOB sources ${SOURCE}/ops/*.c)
list(SORT sources)
foreach(source IN LISTS sources)
  file(STRINGS ${source} definitions REGEX "^const struct dlb_op dlb_op_[a-z0-9_]+ =")
  get_filename_component(stem ${source} NAME_WE)
  string(REGEX REPLACE "_.*" "" stem ${stem})
  if(definitions)
    collect(ops/${stem} files)
    set(all "")
    foreach(file IN LISTS files)
      file(SHA256 ${SOURCE}/${file} hash)
      string(APPEND all "${file} ${hash}\n")
    endforeach()
    string(SHA256 all "${all}")
    string(SUBSTRING ${all} 0 16 all)
  endif()
  foreach(definition IN LISTS definitions)
    string(REGEX REPLACE ".*dlb_op_([a-z0-9_]+) =.*" "\\1" op "${definition}")
    string(APPEND HASHES "    {\"${op}\", \"${all}\"},\n")
  endforeach()
endforeach()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
"/* Made at each build by code_hash.cmake. */
#ifndef DLB_CODE_HASH_H
#define DLB_CODE_HASH_H

static const struct {
    const char *op, *hash;
} dlb_code_hashes[] = {
@HASHES@};

#endif
" @ONLY)
