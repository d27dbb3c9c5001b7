# Writes build_info.h: which sources, compiler and flags a binary was made of.  Run as a
# script with SOURCE, TEMPLATE, OUTPUT, COMPILER, TYPE and FLAGS.  Outside a working copy
# the commit is "unknown".
set(COMMIT unknown)
set(DIRTY unknown)
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-toplevel HEAD
                  RESULT_VARIABLE failed OUTPUT_VARIABLE answer ERROR_QUIET
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed)
    string(REPLACE "\n" ";" answer "${answer}")
    list(GET answer 0 top)
    get_filename_component(top "${top}" REALPATH)
    get_filename_component(source "${SOURCE}" REALPATH)
    # An unpacked archive may lie inside somebody else's working copy.
    if(top STREQUAL source)
      list(GET answer 1 COMMIT)
      execute_process(COMMAND ${GIT} -C ${SOURCE} status --porcelain
                      OUTPUT_VARIABLE changes ERROR_QUIET)
      set(DIRTY no)
      if(changes)
        set(DIRTY yes)
      endif()
    endif()
  endif()
endif()
string(REGEX REPLACE "([\\\\\"])" "\\\\\\1" FLAGS "${FLAGS}")
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
